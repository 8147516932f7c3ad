"""AlphaEdit: repair what is left in closed form, and learn scales."""

from rcc.stages.alpha.editor import AlphaEditor

__all__ = ["AlphaEditor"]
