"""Adapt a user's own torch modules."""
