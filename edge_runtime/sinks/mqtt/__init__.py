"""Publish results to an MQTT broker, and to Home Assistant through it."""
