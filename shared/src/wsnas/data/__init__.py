"""Data sets on the device: images in memory, streamed image folders, text; and where they come from."""
