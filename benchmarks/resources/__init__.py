"""Resources of board and processes: temperature, power and sizes on disk."""
