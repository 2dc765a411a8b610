"""What is found out about a model file before a native runtime is let near it, since those can crash on a damaged one.

`structure` reads the FlatBuffer with every bound checked, `fit` compares its operators with the installed runtime, and
`trial` runs it in a child process.
"""
