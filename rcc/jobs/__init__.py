"""What a run can do: compress, show the plan of it, evaluate, train. Plain Python in, files out."""
