"""The gate that brings the analysts' repository in."""
