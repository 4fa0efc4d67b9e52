"""From files to slices."""
