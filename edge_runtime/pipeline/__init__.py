"""How pictures flow: a folder wants throughput, a camera wants the newest frame."""
