"""The machine that the server runs on: its files, read in bounded time; its limits; its host names."""
