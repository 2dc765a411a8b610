"""The live page of a camera run: picture, answers, health and metrics over HTTP. Its modules load aiohttp on use."""
