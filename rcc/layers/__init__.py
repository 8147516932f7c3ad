"""The S + U V form, the modules that compute with it, finding and replacing them, and their bytes."""
