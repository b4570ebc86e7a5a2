"""The one canonical form of a value, so that equal content has equal hashes on every machine.

Templates, personas and bindings are addressed by the hash of this form; the stored body is this form itself.
"""

import hashlib
import json
from typing import Any

from pydantic import BaseModel


def canonical_json(value: Any) -> str:
    """Return `value` as JSON with sorted keys and no spaces; raises ValueError for NaN and infinities."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of all of `data` as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def canonical_body(model: BaseModel) -> str:
    """Return the canonical JSON of a model with its defaults written out, so that a later default changes nothing."""
    return canonical_json(model.model_dump(mode="json"))


def content_hash(model: BaseModel) -> str:
    """Return the SHA-256 of the model's canonical body."""
    return sha256_hex(canonical_body(model).encode())


def input_hash(requirements_md: str, objective: str, metadata: dict[str, Any], extra: dict[str, Any]) -> str:
    """Return SHA-256 (hex) over a run's input."""
    inputs = {"requirements_md": requirements_md, "objective": objective, "metadata": metadata, "extra": extra}
    return sha256_hex(canonical_json(inputs).encode())
