"""A camera command as a systemd service: its arguments, what they need of the machine, and the unit file."""
