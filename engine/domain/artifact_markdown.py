"""An artifact as people read it: headings, lists and tables in the order of its schema, all text made harmless."""

import re
from collections.abc import Mapping
from typing import Any

from engine.domain.artifact import STAMPED
from engine.domain.safe_text import fence, neutralise

_MAX_DEPTH = 6
_TABLE_CELL = 200


def render_markdown(artifact: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """Return the artifact as Markdown; headings come from the schema's titles, else from the names of the fields."""
    lines = [f"# {neutralise(str(schema.get('title') or 'Artifact'))}"]
    for name in _ordered(artifact, schema):
        if name in STAMPED or artifact[name] in (None, [], {}, ""):
            continue
        lines += _section(name, artifact[name], _property(schema, schema, name), schema, 2)
    stamps = [f"{_words(name)}: {neutralise(str(artifact[name]))}" for name in STAMPED if name in artifact]
    if stamps:
        lines += ["", "---", "", " · ".join(stamps)]
    return "\n".join(lines) + "\n"


def _section(name: str, value: Any, part: Mapping[str, Any], root: Mapping[str, Any], level: int) -> list[str]:
    title = str(part.get("title") or _words(name))
    lines = ["", f"{'#' * min(level, _MAX_DEPTH)} {neutralise(title)}", ""]
    if isinstance(value, Mapping):
        if level >= _MAX_DEPTH:
            return [*lines, fence(repr(value))]
        for inner in _ordered(value, part):
            lines += _section(inner, value[inner], _property(root, part, inner), root, level + 1)
        return lines
    if isinstance(value, list):
        return [*lines, *_list(value, _resolve(root, part.get("items", {})), root)]
    return [*lines, *_scalar(value, part)]


def _list(items: list[Any], part: Mapping[str, Any], root: Mapping[str, Any]) -> list[str]:
    if not items:
        return ["none"]
    if not all(isinstance(item, Mapping) for item in items):
        return [f"- {_inline(item)}" for item in items]
    columns = list(dict.fromkeys(name for item in items for name in _ordered(item, part)))
    blocks = [name for name in columns if any(_needs_block(item.get(name), part, root, name) for item in items)]
    shown = [name for name in columns if name not in blocks]
    titles = {name: _property(root, part, name).get("title") or _words(name) for name in columns}
    lines: list[str] = []
    if shown:
        lines.append("| " + " | ".join(_cell(titles[name]) for name in shown) + " |")
        lines.append("|" + " --- |" * len(shown))
        lines += ["| " + " | ".join(_cell(item.get(name)) for name in shown) + " |" for item in items]
    for number, item in enumerate(items, 1):
        for name in blocks:
            if item.get(name) in (None, "", [], {}):
                continue
            label = neutralise(str(item[shown[0]])) if shown and item.get(shown[0]) else str(number)
            lines += ["", f"**{label}: {neutralise(str(titles[name]))}**", ""]
            value = item[name]
            if isinstance(value, list):
                lines += [f"- {_inline(one)}" for one in value]
            else:
                lines += _scalar(value, _property(root, part, name))
    return lines


def _needs_block(value: Any, part: Mapping[str, Any], root: Mapping[str, Any], name: str) -> bool:
    if isinstance(value, (Mapping, list)) and value:
        return True
    if not isinstance(value, str):
        return False
    return "contentMediaType" in _property(root, part, name) or "\n" in value.strip() or len(value) > _TABLE_CELL


def _scalar(value: Any, part: Mapping[str, Any]) -> list[str]:
    if isinstance(value, str) and part.get("contentMediaType") == "text/plain":
        return [fence(value)]
    if isinstance(value, Mapping):
        return [_inline(value)]
    return [line or "" for line in neutralise(_text(value)).split("\n")]


def _cell(value: Any) -> str:
    return " ".join(neutralise(_text(value)).split("\n")) or " "


def _inline(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{neutralise(_words(str(key)))}: {_inline(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return ", ".join(_inline(inner) for inner in value)
    return " ".join(line for line in neutralise(_text(value)).split("\n") if line)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _ordered(value: Mapping[str, Any], part: Mapping[str, Any]) -> list[str]:
    known = [name for name in part.get("properties", {}) if name in value]
    return known + sorted(name for name in value if name not in known)


def _property(root: Mapping[str, Any], part: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    inner = part.get("properties", {}).get(name, {})
    return _resolve(root, inner) if isinstance(inner, Mapping) else {}


def _resolve(root: Mapping[str, Any], part: Any) -> Mapping[str, Any]:
    reference = part.get("$ref") if isinstance(part, Mapping) else None
    match = re.fullmatch(r"#/\$defs/([^/]+)", reference) if isinstance(reference, str) else None
    if match is None:
        return part if isinstance(part, Mapping) else {}
    return {**root.get("$defs", {}).get(match.group(1), {}), **part}


def _words(name: str) -> str:
    text = name.replace("_", " ").strip()
    return text[:1].upper() + text[1:]
