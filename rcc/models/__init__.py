"""Model adapters: the only place that knows an architecture."""
