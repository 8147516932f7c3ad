"""Run a cascade of stages: order, gate, back-off, rollback, state. It does not know what a stage does."""
