"""Evaluators: metrics with names, units and direction, one of them primary."""
