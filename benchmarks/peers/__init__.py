"""Other tools on the same pictures and the same machine, each in a virtual environment of its own."""
