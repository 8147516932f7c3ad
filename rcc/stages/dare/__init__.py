"""DARE: prune what matters least, and solve for what is kept."""

from rcc.stages.dare.compressor import DARECompressor

__all__ = ["DARECompressor"]
