"""Training: one loop, its augmentation, and the pre-training of the embedded checkpoint."""
