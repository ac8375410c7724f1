"""Search spaces: a file each, found by its name. `space.py` says what a space is."""
