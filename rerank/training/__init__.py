"""Training of the reward models that ship with the package."""
