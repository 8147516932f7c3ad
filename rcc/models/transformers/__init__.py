"""Adapt the models of the transformers library."""
