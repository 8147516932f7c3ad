"""Serve models and a store over HTTP: embeddings in OpenAI's form, search, and what each model lost."""
