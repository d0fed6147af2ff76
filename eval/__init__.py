"""How much reranking helps, and how fast: one module per question.

metrics    how well rewards agree with a truth, pure arithmetic
agreement  a reward model against the truth of music that `synth` makes
speed      how long things take, and how much memory
"""
