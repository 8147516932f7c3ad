"""Read what runs and sweeps recorded, from their files alone, which anybody may have written."""
