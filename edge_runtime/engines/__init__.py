"""Runtimes behind one small protocol; which one opens a file follows from the file and from what is installed."""
