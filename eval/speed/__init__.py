"""How long things take here, and how much memory: one module per question.

best_of_n  a whole run, from a cold start too
reward     `cmi-rm` against the way of its official inference
musicgen   the MusicGen engine against transformers

They stand on `timing` and `machine`, and on models with random weights, which take as long as trained ones.
"""
