"""Convert a run directory or a foreign model to a verified bundle."""
