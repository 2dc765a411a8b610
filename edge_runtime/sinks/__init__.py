"""Sinks for results: small writers behind one protocol."""
