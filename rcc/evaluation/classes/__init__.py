"""Measure how well images are assigned to classes: zero-shot and by a classifier's logits."""
