"""Labelled datasets: folders, CSV lists, zips, downloads and the built-in drawings."""
