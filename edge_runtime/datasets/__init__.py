"""Labelled sets: folders, built-in drawings, splits."""
