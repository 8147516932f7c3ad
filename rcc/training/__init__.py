"""Train models on data: augmentation, the order of an epoch, and the pre-training of the embedded checkpoint."""
