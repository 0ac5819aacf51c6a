"""Accounts from an OpenID Connect provider: who logs in, and which groups they have."""

from __future__ import annotations

from typing import Any

from superset.security import SupersetSecurityManager


class GroupsManager(SupersetSecurityManager):  # type: ignore[misc] # it carries no types
    """Takes a person from the signed identity token, with the groups that make their roles."""

    def get_oauth_user_info(self, provider: str, resp: dict[str, Any]) -> dict[str, Any]:
        """Return a person as Flask-AppBuilder takes them.

        Authlib has checked the token's signature, issuer and audience by then. A provider that puts
        nothing but the subject into it is asked for the rest.
        """
        person = dict(resp.get("userinfo") or {})
        if "email" not in person or "groups" not in person:
            person |= self.appbuilder.sm.oauth_remotes[provider].userinfo(token=resp)
        return {
            "username": person.get("preferred_username") or person["sub"],
            "first_name": person.get("given_name", ""),
            "last_name": person.get("family_name", ""),
            "email": person.get("email") or f"{person['sub']}@localhost",
            "role_keys": person.get("groups") or [],
        }
