"""What is converted: a run directory or a model from elsewhere, looked at without TensorFlow; and its pictures."""
