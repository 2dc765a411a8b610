"""What runs the models: child processes, the requests they take, and the schedule that asks them."""
