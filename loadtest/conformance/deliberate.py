"""Where this project's server differs from Triton 2.51, and why. The differential mode reads this list."""

DELIBERATE: dict[str, str] = {}
