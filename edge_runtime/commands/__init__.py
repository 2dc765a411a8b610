"""Bodies of the commands of ``edge-run``; `edge_runtime.cli` holds their options."""
