"""The machine below: files, cache folder, board sensors, child processes and garbage collection."""
