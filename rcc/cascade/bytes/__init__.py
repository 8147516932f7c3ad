"""Meet a target in bytes: shares of stages, budgets of rounds, a search in the last round."""
