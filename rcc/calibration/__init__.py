"""Gather what stages learn from calibration data: moments of inputs, gradients, the dense model's outputs."""
