"""What runs in the process that reads a camera, and how its frames come here."""
