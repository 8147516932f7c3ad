"""Numbers about compressed models: subspaces and their overlap."""
