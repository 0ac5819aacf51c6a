"""The bucket at B2, and what is in it."""
