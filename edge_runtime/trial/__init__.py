"""A first run of model files in a process of its own, because a damaged one can crash a runtime."""
