"""The Vault of the test run, for the tests of this folder."""

from __future__ import annotations

from tests.vault_policies.server import vault_server

__all__ = ["vault_server"]
