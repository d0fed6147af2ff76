"""How much reranking helps, and how fast: one module or folder per question.

metrics      how well rewards agree with a truth, pure arithmetic
calibration  what a gap between two rewards tells, pure arithmetic
agreement    a reward model against the truth of music that `synth` makes
speed        how long things take, and how much memory
"""
