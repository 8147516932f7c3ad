"""Speed up a loaded model on this machine: choose kernels by measuring them, and compare with dense."""
