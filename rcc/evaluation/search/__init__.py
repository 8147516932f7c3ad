"""Measure searches of a text in a corpus of documents: nDCG, average precision, recall, reciprocal rank."""
