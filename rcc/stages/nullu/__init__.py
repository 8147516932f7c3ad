"""Nullu: truncate to a low rank, and project unwanted subspaces out."""

from rcc.stages.nullu.projector import NulluProjector

__all__ = ["NulluProjector"]
