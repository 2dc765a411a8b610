"""Scripts that the Python of a peer's environment runs; they import nothing of edgekit but for its own row."""
