"""TFLite files without a runtime: FlatBuffer reader, validation, operator versions and metadata.

`structure` reads the FlatBuffer with every bound checked, `fit` compares its operators with the installed runtime, and
`trial` runs it in a child process.
"""
