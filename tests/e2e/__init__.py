"""Tests that drive the real platform."""
