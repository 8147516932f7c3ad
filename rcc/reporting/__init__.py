"""What a user sees and keeps: console, metrics log, report, W&B."""
