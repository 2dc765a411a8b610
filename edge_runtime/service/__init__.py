"""Camera commands as systemd services: arguments, permissions, unit file and notifications."""
