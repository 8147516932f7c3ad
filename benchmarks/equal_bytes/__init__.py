"""Compress a model to given bytes by the product and by the usual ways, and compare what is left of it."""
