"""Pipelines: folders for throughput, cameras for the newest frame."""
