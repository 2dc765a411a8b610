"""The capture process: the devices it reads, and how its frames reach the parent."""
