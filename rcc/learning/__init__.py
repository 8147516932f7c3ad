"""Train models whose form is held: what a compressed layer must keep while an optimiser moves its values."""
