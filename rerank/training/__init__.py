"""How reward models are trained: a loop, losses and stored features for all of them, and a recipe for each.

recipe    what the loop asks of a recipe
loop      steps, device, running mean, checkpoints, Ctrl-C; it knows of no recipe
losses    what a reward model learns from, on plain tensors
features  what a frozen tower makes of the data, computed once
mini      the recipe of `cmi-mini`
"""
