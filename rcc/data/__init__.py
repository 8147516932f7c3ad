"""Datasets as disjoint, seeded splits of images, captions and labels."""
