"""Do what a run was asked for: compress, show a plan, evaluate, train. Plain Python in, files out."""
