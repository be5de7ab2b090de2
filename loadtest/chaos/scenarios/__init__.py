"""The scenarios, by what is at fault."""
