"""The cascade: order, gate, back-off, rollback, state. It does not know what a stage does."""
