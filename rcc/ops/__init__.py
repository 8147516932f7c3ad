"""Compute on tensors: pure functions that import torch and nothing else of this project."""
