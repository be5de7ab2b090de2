"""Model families on disk: their manifests, the repository that holds them, and whether a version is complete."""
