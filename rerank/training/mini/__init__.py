"""The recipe of `cmi-mini`: the small reward model, from nothing, on music that `synth` makes.

options  of a training run
dataset  prompts and clips, rendered with their truth
clips    what is known of the clips
pairs    prompts right and wrong with candidates, and the truth of each pair
batches  what a step learns from
facts    what can be told from sound and text
heads    readers of the facts
recipe   the stages, and their losses
train    all of it, from an empty folder to weights
card     the model card
"""
