"""What a model server can do wrong, as one typed error: what it is called, whether to try again, what it may have cost.

`openai_agent` makes these from answers and broken connections; `turn` reads them to retry and to write the ledger.
"""

import email.utils
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from engine.agents.base import Usage
from engine.domain.errors import DevflowError

_SHOWN = 300
_SHORTEST_KEY = 8  # local servers take words like "none" as a key; those may be shown

_OVERFLOW_CODES = frozenset({"context_length_exceeded", "exceed_context_size_error", "context_window_exceeded"})
_OVERFLOW_WORDS = re.compile(
    r"context.?(length|window|size)|prompt is too long|input is too long|too many (input )?tokens"
    r"|token count.{0,60}exceeds|reduce the length of the (messages|prompt|input)|request too large for",
    re.IGNORECASE,
)
_REFUSAL_CODES = frozenset({"content_filter", "content_policy_violation", "invalid_prompt"})
_NO_QUOTA = frozenset({"insufficient_quota", "billing_hard_limit_reached", "credit_balance_too_low"})

# A gateway that gave up says nothing about whether the model behind it went on and was billed.
_MAYBE_BILLED = frozenset({502, 504, 520, 522, 524})
_RETRIED = frozenset({408, 409, 425, 429})

_KEY_SHAPED = re.compile(r"\b(?:sk|pk|key|rk|gsk|xai)-[A-Za-z0-9*_.\-]{4,}")


class ModelFault(DevflowError):  # noqa: N818 - it covers refusals and overflows as well as errors
    """One try at a model call that gave no usable turn.

    `retry` says whether the same request may do better; `retry_after` is the server's own wish in seconds.
    `may_be_billed` says whether the server may have worked, and so charged, for nothing; `usage` is what it said it
    used, where it said so.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        retry: bool = False,
        retry_after: float | None = None,
        may_be_billed: bool = False,
        usage: Usage | None = None,
        request_id: str | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(code, message)
        self.retry = retry
        self.retry_after = retry_after
        self.may_be_billed = may_be_billed
        self.usage = usage
        self.request_id = request_id
        self.status = status


def fault_of_status(status: int, headers: Mapping[str, str], error: Mapping[str, Any]) -> ModelFault:
    """Return what an HTTP status (400 and above) with its `error` object means; the text in `error` must be clean."""
    said = str(error.get("message") or "no reason given")
    names = {str(error.get(key)) for key in ("code", "type")}
    request_id = headers.get("x-request-id")
    if status < 500 and status != 429 and (names & _OVERFLOW_CODES or _OVERFLOW_WORDS.search(said) or status == 413):
        return ModelFault("context_overflow", f"the model says: {said}", request_id=request_id, status=status)
    if names & _REFUSAL_CODES:
        return ModelFault("agent_failed", f"the model refused: {said}", request_id=request_id, status=status)
    retry = status in _RETRIED or status >= 500
    if names & _NO_QUOTA:
        retry = False
    match headers.get("x-should-retry"):
        case "true":
            retry = True
        case "false":
            retry = False
    return ModelFault(
        "backend_unavailable",
        f"the model server answers {status}: {said}",
        retry=retry,
        retry_after=retry_after(headers),
        may_be_billed=status in _MAYBE_BILLED,
        request_id=request_id,
        status=status,
    )


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Return the seconds that the server asks to wait (`retry-after-ms`, or `Retry-After` of RFC 9110), else None."""
    for name, divisor in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) / divisor
        except (KeyError, ValueError):
            continue
        return max(0.0, seconds) if not math.isnan(seconds) else None
    try:
        date = email.utils.parsedate_to_datetime(headers["retry-after"])
    except (KeyError, ValueError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())


def clean(text: str, secret: str | None) -> str:
    """Return a server's text as one short line without the key, neither whole nor in the masked form of an echo."""
    text = text[:20_000]
    if secret and len(secret) >= _SHORTEST_KEY:
        text = text.replace(secret, "[key]")
    text = " ".join(_KEY_SHAPED.sub("[key]", text).split())
    text = "".join(character for character in text if character.isprintable())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
