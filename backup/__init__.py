"""The backup stream: dump, encrypt, upload, catalogue, restore, drill."""

from __future__ import annotations

__version__ = "0.1.0"
