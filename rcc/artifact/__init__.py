"""Write, verify and load artifacts: directories that reload to the same outputs."""
