"""From a command line to a checked config: the stage grammar, resume, help."""
