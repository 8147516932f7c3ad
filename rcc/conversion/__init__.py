"""Convert models between checkpoints and artifacts, and prove on items of data that outputs stayed what they were."""
