"""The same padded graph on other servers, each in an environment of its own (`python -m benchmarks.peers`)."""
