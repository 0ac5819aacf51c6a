"""The errors that B2 answers with, each as status, code and message."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


class B2Error(Exception):
    """A refusal in B2's own words; ``app`` turns it into the answer's body."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status, self.code, self.message = status, code, message
        self.headers: dict[str, str] = {}

    def body(self) -> Json:
        """Return the answer's body: B2 gives all its errors this shape."""
        return {"status": self.status, "code": self.code, "message": self.message}


def bad_request(message: str, code: str = "bad_request") -> B2Error:
    """Return the error of a request that is wrong in itself."""
    return B2Error(400, code, message)


def unauthorized(message: str = "unauthorized") -> B2Error:
    """Return the error of a key that may not do this."""
    return B2Error(401, "unauthorized", message)


def bad_auth_token() -> B2Error:
    """Return the error of a token that this server did not give, or took back."""
    return B2Error(401, "bad_auth_token", "Invalid authorization token")


def expired_auth_token() -> B2Error:
    """Return the error of a token whose time is over."""
    return B2Error(401, "expired_auth_token", "Authorization token has expired")


def no_such_bucket(bucket_id: str) -> B2Error:
    """Return the error of a bucket id that is not there."""
    return bad_request(f"Bucket {bucket_id} does not exist", "bad_bucket_id")


def not_found(message: str) -> B2Error:
    """Return the error of a file that a download or a look-up names and that is not there."""
    return B2Error(404, "not_found", message)


def no_active_upload(file_id: str) -> B2Error:
    """Return the error of a large file that is not being uploaded (never was, or no longer)."""
    return bad_request(f"No active upload for: {file_id}")
