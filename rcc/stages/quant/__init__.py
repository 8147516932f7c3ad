"""Quantisation: round what is stored to a grid of a few bits."""

from rcc.stages.quant.quantizer import Quantizer

__all__ = ["Quantizer"]
