"""Recovery: train what is stored against the dense model."""

from rcc.stages.recover.stage import Recovery

__all__ = ["Recovery"]
