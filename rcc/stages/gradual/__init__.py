"""Gradual pruning: zeros are chosen while the values are trained."""

from rcc.stages.gradual.stage import GradualPruning

__all__ = ["GradualPruning"]
