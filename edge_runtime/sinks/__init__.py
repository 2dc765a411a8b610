"""Where results go: small writers behind one protocol."""
