"""What a conversion tells its user: the table on the terminal, ``conversion.md`` and ``conversion.html``."""
