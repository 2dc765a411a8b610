"""What a report holds: frozen dataclasses, nothing else."""
