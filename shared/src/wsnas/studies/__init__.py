"""Code the studies share. Nothing below imports it."""
