"""Two reports beside each other: what became better or worse, how sure that is, and whether it is too much."""
