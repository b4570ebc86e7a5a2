"""Artifacts: bytes that an agent wrote become a checked value, and the value becomes the bytes that are published.

Flow: parse, stamp what the engine knows, validate against the phase's schema, canonical bytes, digest.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn
from uuid import UUID

import referencing
import referencing.exceptions
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.exceptions import SchemaError, best_match

from engine.domain.canonical import sha256_hex
from engine.domain.errors import DevflowError
from engine.domain.safe_text import strip_hidden

MAX_ARTIFACT_BYTES = 1_048_576
MAX_ERRORS = 5
_MAX_MESSAGE = 300
# Fields that the engine writes itself; a schema has to leave room for them.
STAMPED = ("run_id", "phase_key")
# Those, and the results of its checks: what nobody else may write or change.
ENGINE_FIELDS = (*STAMPED, "checks")

Json = dict[str, Any]


@dataclass(frozen=True)
class ArtifactError:
    """One thing wrong with an artifact; `path` is a JSON pointer, `/` the artifact itself."""

    path: str
    message: str

    def to_json(self) -> dict[str, str]:
        """Return the error as a JSON object."""
        return {"path": self.path, "message": self.message}


class _Refused(Exception):  # noqa: N818 - never leaves this module
    pass


def parse_artifact(data: bytes) -> tuple[Json | None, list[ArtifactError]]:
    """Return the JSON object in `data` (UTF-8) and no errors, or None and what is wrong with it."""
    if len(data) > MAX_ARTIFACT_BYTES:
        return None, [ArtifactError("/", f"{len(data)} bytes; at most {MAX_ARTIFACT_BYTES} are allowed")]
    try:
        text = data.decode("utf-8-sig")
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)
    except UnicodeDecodeError as error:
        return None, [ArtifactError("/", f"not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}")]
    except json.JSONDecodeError as error:
        return None, [ArtifactError("/", f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}")]
    except _Refused as error:
        return None, [ArtifactError("/", str(error))]
    except RecursionError:
        return None, [ArtifactError("/", "nested too deeply")]
    except ValueError:
        return None, [ArtifactError("/", "a number with too many digits")]
    return check_object(value)


def check_object(value: Any) -> tuple[Json | None, list[ArtifactError]]:
    """Return the value where it is an object that can be published as JSON text, else None and what is wrong."""
    if not isinstance(value, dict):
        return None, [ArtifactError("/", f"a JSON {_kind(value)}; a JSON object is wanted")]
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        size = len(text.encode())
    except UnicodeEncodeError:
        return None, [ArtifactError("/", "text with half of a surrogate pair (\\ud800..\\udfff)")]
    except RecursionError:
        return None, [ArtifactError("/", "nested too deeply")]
    except (TypeError, ValueError):
        return None, [ArtifactError("/", "a value that JSON cannot express")]
    if size > MAX_ARTIFACT_BYTES:
        return None, [ArtifactError("/", f"{size} bytes; at most {MAX_ARTIFACT_BYTES} are allowed")]
    if "\\u0000" in text and _has_nul(value):
        return None, [ArtifactError("/", "text with a NUL character (\\u0000)")]
    return value, []


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        return any(_has_nul(key) or _has_nul(item) for key, item in value.items())
    return isinstance(value, list) and any(_has_nul(item) for item in value)


def _object(pairs: list[tuple[str, Any]]) -> Json:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Refused(f"the key {json.dumps(twice)} twice in one object")
    return result


def _constant(name: str) -> NoReturn:
    raise _Refused(f"{name} is no JSON number")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _Refused(f"the number {text[:40]} is too large")
    return value


def _kind(value: Any) -> str:
    names = {list: "array", str: "string", bool: "boolean", int: "number", float: "number"}
    return "null" if value is None else names.get(type(value), "value")


def validate_artifact(artifact: Json, schema: Json) -> list[ArtifactError]:
    """Return the first five errors of the artifact against a JSON Schema 2020-12, by path; no errors: it is valid.

    Raises `config_invalid` where the schema itself cannot be applied: that is no fault of the artifact.
    """
    # An empty registry: a schema that refers to elsewhere must not make the engine fetch anything.
    validator = Draft202012Validator(schema, registry=referencing.Registry())
    try:
        errors = [best_match([error]) or error for error in validator.iter_errors(artifact)]
    except (referencing.exceptions.Unresolvable, RecursionError, SchemaError) as error:
        raise DevflowError("config_invalid", f"the schema cannot be applied: {type(error).__name__}") from error
    rows = {(_sort_key(error), ArtifactError(_pointer(error), _message(error))) for error in errors}
    return [row for _, row in sorted(rows, key=lambda row: (row[0], row[1].message))][:MAX_ERRORS]


def _sort_key(error: ValidationError) -> tuple[tuple[int, int, str], ...]:
    return tuple((0, part, "") if isinstance(part, int) else (1, 0, part) for part in error.absolute_path)


def _pointer(error: ValidationError | SchemaError) -> str:
    parts = [str(part).replace("~", "~0").replace("/", "~1") for part in error.absolute_path]
    return strip_hidden("/" + "/".join(parts))[:_MAX_MESSAGE]


def _message(error: ValidationError | SchemaError) -> str:
    text = strip_hidden(error.message)
    if len(text) > _MAX_MESSAGE:
        # The end says what is wrong; the beginning is the value, however long.
        text = f"{text[:120]} ... {text[-150:]}"
    if error.validator == "enum" and isinstance(error.validator_value, list) and len(text) > _MAX_MESSAGE // 2:
        text += f"; allowed: {', '.join(json.dumps(value) for value in error.validator_value)}"[:_MAX_MESSAGE]
    return text


def schema_errors(schema: Any) -> list[ArtifactError]:
    """Return why a JSON document cannot serve as an artifact schema; an empty list: it can."""
    if not isinstance(schema, dict):
        return [ArtifactError("/", f"a JSON {_kind(schema)}; a JSON Schema object is wanted")]
    try:
        Draft202012Validator.check_schema(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    except SchemaError as error:
        return [ArtifactError(_pointer(error), _message(error))]
    errors = []
    resolver = referencing.Registry().resolver_with_root(
        referencing.Resource.from_contents(schema, default_specification=referencing.jsonschema.DRAFT202012)
    )
    for path, reference in _references(schema, ""):
        try:
            resolver.lookup(reference)
        except (referencing.exceptions.Unresolvable, RecursionError):
            errors.append(ArtifactError(path, f"{reference!r} does not name a part of this schema"))
    properties = schema.get("properties", {})
    closed = schema.get("additionalProperties") is False or schema.get("unevaluatedProperties") is False
    missing = [name for name in STAMPED if closed and name not in properties]
    if missing:
        errors.append(ArtifactError("/properties", f"no room for {', '.join(missing)}, which the engine writes"))
    return errors


def _references(node: Any, path: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("$ref", "$dynamicRef") and isinstance(value, str):
                found.append((f"{path}/{key}", value))
            elif key not in ("const", "enum", "default", "examples"):
                found += _references(value, f"{path}/{key}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            found += _references(value, f"{path}/{index}")
    return found


def stamp(
    artifact: Json, *, run_id: UUID | str, phase_key: str, checks: Sequence[Mapping[str, Any]] | None = None
) -> Json:
    """Return the artifact with what the engine knows: run, phase and, where given, its own check results.

    What an agent wrote in these places is replaced, and `checks` of its own are dropped: evidence beats claims.
    """
    stamped = {**artifact, "run_id": str(run_id), "phase_key": phase_key}
    if checks is not None:
        stamped["checks"] = [dict(check) for check in checks]
    else:
        stamped.pop("checks", None)
    return stamped


def artifact_bytes(artifact: Json) -> bytes:
    """Return the artifact as it is published: UTF-8 JSON, sorted keys, indent 2, final newline."""
    return (json.dumps(artifact, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def digest(data: bytes) -> str:
    """Return the SHA-256 of all the bytes as 64 hex digits."""
    return sha256_hex(data)
