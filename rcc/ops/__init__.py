"""Pure functions on tensors. They import torch and nothing else of this project."""
