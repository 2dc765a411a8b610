"""Images of a training: facts, audit, split and pixel cache."""
