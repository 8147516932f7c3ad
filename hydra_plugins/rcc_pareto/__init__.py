"""Hydra plugin: the Optuna sweeper with its study in the sweep's own folder."""
