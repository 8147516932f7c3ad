"""Hold weights in the form S + U V: the modules that compute with it, the units of a model, and their bytes."""
