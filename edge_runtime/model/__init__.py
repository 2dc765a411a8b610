"""Model files: bundles, opening, embedded metadata and the sandbox."""
