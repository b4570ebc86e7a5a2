"""Tells whether a webhook request was signed with one of our secrets; pure, the first thing that the door asks."""

import hashlib
import hmac
from collections.abc import Sequence

_PREFIX = "sha256="


def verify(secrets: Sequence[str], body: bytes, header: str | None) -> bool:
    """Tell whether `header` (X-Hub-Signature-256) is the HMAC-SHA256 of the raw body under any of the secrets.

    Takes constant time for each secret and tries all of them; empty secrets sign nothing. Source: GitHub's
    documentation, "Validating webhook deliveries".
    """
    given = (header or "").encode("utf-8", "replace")
    valid = False
    for secret in filter(None, secrets):
        valid |= hmac.compare_digest(sign(secret, body).encode(), given)
    return valid


def sign(secret: str, body: bytes) -> str:
    """Return the header that GitHub sends with a body: `sha256=` and the HMAC in hexadecimal."""
    return _PREFIX + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
