"""From a source to pictures that may be trained on: facts, audit, split, pixel cache."""
