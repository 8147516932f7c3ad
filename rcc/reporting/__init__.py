"""Show and record a run: console, metrics log, report, W&B."""
