"""Training loop: phases, batches, objective, callbacks and resumable state."""
