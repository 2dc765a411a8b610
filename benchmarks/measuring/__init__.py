"""Measuring processes: one child a model, and the schedule that asks them in turn."""
