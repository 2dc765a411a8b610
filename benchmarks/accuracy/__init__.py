"""From answers and true labels to the records of accuracy."""
