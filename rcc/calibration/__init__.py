"""What stages learn from calibration data: gradients, moments of inputs and the dense model's outputs."""
