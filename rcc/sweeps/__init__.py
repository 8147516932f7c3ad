"""Hold a sweep in files: its record, its study, the state of each trial, so that it goes on where it was stopped."""
