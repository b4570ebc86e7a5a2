"""The few expressions that our action uses, evaluated as GitHub does; anything else is refused loudly.

Values are strings, numbers, booleans and None. What a context does not have is None, which shows as nothing.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

_TOKEN = re.compile(r"\s*(?:('(?:[^']|'')*')|(\d+(?:\.\d+)?)|(\|\||&&|==|!=|!|[().,])|([A-Za-z_][A-Za-z0-9_-]*))")
_EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
_WORDS = {"true": True, "false": False, "null": None}
Functions = Mapping[str, Callable[..., Any]]


class ExpressionError(ValueError):
    """An expression that this runner does not know."""


def evaluate(text: str, contexts: Mapping[str, Any], functions: Functions) -> Any:
    """Return the value of one expression, without its braces."""
    return _Parser(_tokens(text), contexts, functions, text).whole()


def interpolate(text: str, contexts: Mapping[str, Any], functions: Functions) -> str:
    """Return a text with each `${{ ... }}` in it replaced by its value."""
    return _EXPRESSION.sub(lambda found: shown(evaluate(found.group(1), contexts, functions)), text)


def condition(text: str | bool | None, contexts: Mapping[str, Any], functions: Functions) -> bool:
    """Return whether a step's `if:` holds; where it names no function for the job's state, `success()` is meant."""
    if text is None:
        return bool(functions["success"]())
    source = (
        str(text).strip().removeprefix("${{").removesuffix("}}") if not isinstance(text, bool) else str(text).lower()
    )
    held = _true(evaluate(source, contexts, functions))
    if not re.search(r"\b(always|success|failure|cancelled)\s*\(", source):
        return held and bool(functions["success"]())
    return held


def shown(value: Any) -> str:
    """Return a value as it stands in a text."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _true(value: Any) -> bool:
    return value not in (None, False, 0, "")


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, str) and isinstance(other, str):
        return one.casefold() == other.casefold()
    if type(one) is type(other):
        return bool(one == other)
    return _number(one) == _number(other)


def _number(value: Any) -> float:
    try:
        return float(value or 0)
    except ValueError:
        return float("nan")


def _tokens(text: str) -> list[str]:
    found, place = [], 0
    while text[place:].strip():
        match = _TOKEN.match(text, place)
        if match is None:
            raise ExpressionError(f"this runner does not know {text[place:].strip()!r} in {text.strip()!r}")
        found.append(match.group().strip())
        place = match.end()
    return found


class _Parser:
    """Goes down: or, and, comparison, not, value."""

    def __init__(self, tokens: list[str], contexts: Mapping[str, Any], functions: Functions, text: str) -> None:
        self.tokens = tokens
        self.contexts = contexts
        self.functions = functions
        self.text = text

    def whole(self) -> Any:
        value = self.either()
        if self.tokens:
            raise self.unknown(self.tokens[0])
        return value

    def either(self) -> Any:
        value = self.both()
        while self.take("||"):
            other = self.both()
            value = value if _true(value) else other
        return value

    def both(self) -> Any:
        value = self.compared()
        while self.take("&&"):
            other = self.compared()
            value = other if _true(value) else value
        return value

    def compared(self) -> Any:
        value = self.negated()
        while self.tokens and self.tokens[0] in ("==", "!="):
            equal = self.tokens.pop(0) == "=="
            value = _same(value, self.negated()) is equal
        return value

    def negated(self) -> Any:
        return not _true(self.negated()) if self.take("!") else self.value()

    def value(self) -> Any:
        token = self.tokens.pop(0) if self.tokens else "the end"
        if token == "(":
            value = self.either()
            self.need(")")
            return value
        if token.startswith("'"):
            return token[1:-1].replace("''", "'")
        if token[0].isdigit():
            return float(token) if "." in token else int(token)
        if token in _WORDS:
            return _WORDS[token]
        if self.take("("):
            return self.called(token)
        return self.looked_up(token)

    def called(self, name: str) -> Any:
        arguments = []
        while not self.take(")"):
            arguments.append(self.either())
            if not self.take(","):
                self.need(")")
                break
        if name not in self.functions:
            raise self.unknown(f"{name}()")
        return self.functions[name](*arguments)

    def looked_up(self, name: str) -> Any:
        if name not in self.contexts:
            raise self.unknown(name)
        value, path = self.contexts[name], name
        while self.take("."):
            part = self.tokens.pop(0) if self.tokens else "the end"
            path += f".{part}"
            if value is not None and not isinstance(value, Mapping):
                raise self.unknown(path)
            # a context that we made ourselves has everything that may be asked for, others may lack it
            if name in ("github", "runner", "inputs") and (value is None or part not in value):
                raise self.unknown(path)
            value = None if value is None else value.get(part)
        return value

    def take(self, token: str) -> bool:
        if self.tokens and self.tokens[0] == token:
            self.tokens.pop(0)
            return True
        return False

    def need(self, token: str) -> None:
        if not self.take(token):
            raise self.unknown(self.tokens[0] if self.tokens else "the end")

    def unknown(self, what: str) -> ExpressionError:
        return ExpressionError(f"this runner does not know {what!r} in {self.text.strip()!r}")
