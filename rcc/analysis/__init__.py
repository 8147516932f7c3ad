"""Analyse compressed models: subspaces and their overlap."""
