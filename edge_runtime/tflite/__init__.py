"""TFLite files without a runtime: FlatBuffer reader, validation and operator versions."""
