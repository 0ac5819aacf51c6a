"""The endpoint for these tests."""

from __future__ import annotations

from standins.b2_server.endpoint import b2_endpoint

__all__ = ["b2_endpoint"]
