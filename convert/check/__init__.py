"""The gate: every artefact is run as on a device and compared with Keras."""
