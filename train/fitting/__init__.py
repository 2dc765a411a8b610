"""The loop: phases, batches, objective, callbacks, the state from which a training goes on."""
