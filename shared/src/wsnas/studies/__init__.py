"""What the studies share. The instrument below knows nothing of it."""
