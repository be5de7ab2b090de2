"""Benchmarks: commands that measure the server and the engine, and say whether an aim is met (benchmarks/README.md)."""
