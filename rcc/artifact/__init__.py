"""The directory that reloads to the same outputs: write, read, verify."""
