"""Making a loaded model fast on this machine: kernels chosen by measuring them, and what they bring beside dense."""
