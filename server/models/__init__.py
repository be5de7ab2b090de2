"""Model families on disk: their manifest, the repository that holds them, and whether a version is whole."""
