"""Measure retrieval between images and texts: recall, median rank, re-ranking."""
