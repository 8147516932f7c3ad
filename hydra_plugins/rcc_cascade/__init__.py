"""Hydra plugin: `stage=a+b+c` composed from one YAML a stage."""
