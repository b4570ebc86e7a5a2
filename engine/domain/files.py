"""From a parsed file to a model, and from the model's errors back to lines that a person can mend.

Stands between `yaml_lines` (values with lines) and the models of workflows, personas and configuration. What is
allowed at a place is read from the model's own JSON Schema, so the answer cannot drift from the check.
"""

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

from engine.domain.yaml_lines import MAX_BYTES, Document, FilesInvalid, Location, Problem, parse_yaml, show

ALLOWED = "x-allowed"
_FINDINGS = "cross_check"
_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True)
class Finding:
    """A mistake that only shows when several places are read together."""

    where: Location
    found: str
    allowed: str


def raise_findings(findings: Iterable[Finding]) -> None:
    """Raise the findings, if any, in the form that a pydantic validator may raise and `load_model` can place."""
    rows = [(list(one.where), one.found, one.allowed) for one in findings]
    if rows:
        text = "; ".join(f"{found}, allowed: {allowed}" for _, found, allowed in rows)
        raise PydanticCustomError(_FINDINGS, "{text}", {"text": text, "findings": rows})


def suggest(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean "x"?)` where a known name is close to `name`, else nothing."""
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f' (did you mean "{close[0]}"?)' if close else ""


def load_model(model: type[_Model], data: bytes, file: str, *, max_bytes: int = MAX_BYTES) -> tuple[_Model, Document]:
    """Return the model in the file and the document it came from; raises `FilesInvalid` with every mistake."""
    document = parse_yaml(data, file, max_bytes=max_bytes)
    if not isinstance(document.value, dict):
        raise FilesInvalid([document.problem((), show(document.value), "a mapping of keys to values")])
    try:
        # JSON mode is strict about types ("30" is no number) and still reads enums and decimals.
        return model.model_validate_json(json.dumps(document.value), strict=True), document
    except ValidationError as error:
        raise FilesInvalid(problems_of(document, model, error)) from error


def problems_of(document: Document, model: type[BaseModel], error: ValidationError) -> list[Problem]:
    """Return the model's errors as problems of the document, in the order of the file's lines."""
    schema = model.model_json_schema()
    problems: list[Problem] = []
    errors = error.errors(include_url=False)
    for one in errors:
        where: Location = tuple(one["loc"])
        if one["type"] == "too_short" and any(other["loc"][: len(where)] == where for other in errors if other != one):
            continue  # the list is only short of the items that are wrong themselves
        if one["type"] == _FINDINGS:
            problems += [
                document.problem((*where, *inner), found, allowed) for inner, found, allowed in one["ctx"]["findings"]
            ]
        elif one["type"] == "missing":
            allowed = f"{_describe(schema, where) or 'a value'} (required)"
            problems.append(document.problem(where, "nothing", allowed))
        elif one["type"] == "extra_forbidden":
            keys = sorted(_at(schema, where[:-1]).get("properties", {}))
            name = str(where[-1])
            problems.append(document.problem(where, "an unknown key", ", ".join(keys) + suggest(name, keys)))
        elif where and where[-1] == "[key]":
            allowed = _describe_key(_at(schema, where[:-2])) or one["msg"]
            problems.append(document.problem(where[:-1], f"the key {show(where[-2])}", allowed))
        else:
            problems.append(document.problem(where, show(one["input"]), _describe(schema, where) or one["msg"]))
    return sorted(problems, key=lambda problem: problem.line)


def allowed_at(model: type[BaseModel], where: Location) -> str:
    """Return in words what a model takes at a place, or nothing where it says nothing."""
    return _describe(model.model_json_schema(), where)


def _at(schema: Mapping[str, Any], where: Location) -> dict[str, Any]:
    """Return the part of a model's JSON Schema that governs a place, or nothing where it says nothing."""
    node = _resolve(schema, schema)
    for part in where:
        if isinstance(part, int):
            inner = node.get("items")
        else:
            inner = node.get("properties", {}).get(part) or node.get("additionalProperties")
            if not isinstance(inner, dict):
                inner = next(iter(node.get("patternProperties", {}).values()), None)
        if not isinstance(inner, dict):
            return {}
        node = _resolve(schema, inner)
    return node


def _resolve(root: Mapping[str, Any], node: Mapping[str, Any]) -> dict[str, Any]:
    """Follow references and drop the `null` branch of an optional value."""
    merged = dict(node)
    while "$ref" in merged or "anyOf" in merged:
        if "$ref" in merged:
            target = root["$defs"][merged.pop("$ref").rsplit("/", 1)[-1]]
        else:
            branches = [branch for branch in merged.pop("anyOf") if branch.get("type") != "null"]
            if len(branches) > 1:
                merged.setdefault(ALLOWED, " or ".join(_words(_resolve(root, branch)) for branch in branches))
            target = branches[0]
        merged = {**target, **merged}
    return merged


def _describe(schema: Mapping[str, Any], where: Location) -> str:
    node = _at(schema, where)
    if node.get("type") == "array" and ALLOWED not in node:
        inner = _words(_resolve(schema, node.get("items", {})))
        count = f" of at least {node['minItems']}" if node.get("minItems") else ""
        return f"a list{count}: {inner}" if inner else f"a list{count}"
    return _words(node)


def _describe_key(node: Mapping[str, Any]) -> str:
    if "propertyNames" in node:
        return _words(node["propertyNames"])
    pattern = next(iter(node.get("patternProperties", {})), "")
    return f"text that matches {pattern}" if pattern else ""


def _words(node: Mapping[str, Any]) -> str:
    if ALLOWED in node:
        return str(node[ALLOWED])
    if "enum" in node:
        return ", ".join(str(value) for value in node["enum"])
    if "const" in node:
        return str(node["const"])
    kind = node.get("type")
    if kind in ("integer", "number"):
        low, high = node.get("minimum"), node.get("maximum")
        bounds = f" {low}..{high}" if high is not None else f" {low} or more" if low is not None else ""
        return f"{kind}{bounds}"
    if kind == "string":
        text = f"text that matches {node['pattern']}" if "pattern" in node else "text"
        return f"{text} of at most {node['maxLength']} characters" if "maxLength" in node else text
    if kind == "boolean":
        return "true or false"
    if kind == "object":
        return "{" + ", ".join(node["properties"]) + "}" if "properties" in node else "a mapping"
    return {"array": "a list"}.get(str(kind), "")
