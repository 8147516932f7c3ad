"""Turn a command line into a checked config: the stage grammar, resume, help."""
