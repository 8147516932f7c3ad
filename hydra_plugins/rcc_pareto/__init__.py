"""Sweep so that a sweep goes on where it was stopped: lists of values, and searches with Optuna."""
