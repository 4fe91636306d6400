"""How weights change: the recipe, the optimizer, one step, one run."""
