"""Compute embeddings once for the weights and the data there are, and keep them."""
