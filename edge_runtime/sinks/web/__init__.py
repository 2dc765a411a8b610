"""Live page of a camera run: image, answers, health and metrics over HTTP. Loads aiohttp on use."""
