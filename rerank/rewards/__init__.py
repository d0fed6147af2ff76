"""The reward models: a prompt and candidates in, one number per axis out."""
