"""What stages learn from calibration data: gradients and the dense model's outputs."""
