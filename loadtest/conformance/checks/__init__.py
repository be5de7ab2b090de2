"""The checks, one module an area; importing a module registers its checks."""
