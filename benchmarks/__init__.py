"""Bundle and photos to report: what each export costs and gains against the full Keras model."""
