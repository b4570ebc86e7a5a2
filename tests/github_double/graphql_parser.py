"""A parser for the part of the GraphQL language that clients of the double write: operations, fields, fragments inline.

Grammar after the GraphQL specification (October 2021), without directives, named fragments and block strings.
"""

import re
from dataclasses import dataclass, field
from typing import Any

_TOKEN = re.compile(
    r"""[\s,]+|\#[^\n]*|(?P<token>\.\.\.|[A-Za-z_]\w*|"(?:\\.|[^"\\])*"|-?\d+(?:\.\d+)?|[{}()\[\]:$!=])"""
)


class ParseError(Exception):
    """The text is no query that the double understands."""


@dataclass(frozen=True)
class Variable:
    """A `$name` in an argument."""

    name: str


@dataclass
class Field:
    """A field with what is asked of its value; `on` is set on an inline fragment, which has no name."""

    name: str
    alias: str
    arguments: dict[str, Any] = field(default_factory=dict)
    selection: list["Field"] = field(default_factory=list)
    on: str | None = None


@dataclass
class Operation:
    """A query or mutation; `variables` are the declared ones with their types as written."""

    kind: str
    variables: dict[str, str]
    selection: list[Field]


def parse(text: str) -> Operation:
    """Parse a document of one operation; raises ParseError."""
    parser = _Parser(_tokens(text))
    operation = parser.operation()
    if parser.peek() is not None:
        raise ParseError(f'Expected one operation, actual: "{parser.peek()}"')
    return operation


def _tokens(text: str) -> list[str]:
    tokens, at = [], 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise ParseError(f"Expected a token, actual: {text[at]!r}")
        if found["token"]:
            tokens.append(found["token"])
        at = found.end()
    return tokens


class _Parser:
    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._at = 0

    def peek(self) -> str | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def operation(self) -> Operation:
        if self.peek() == "{":
            return Operation("query", {}, self._selection())
        kind = self._name()
        if kind not in ("query", "mutation"):
            raise ParseError(f'Expected an operation, actual: "{kind}"')
        if self.peek() not in ("(", "{"):
            self._name()
        variables = {}
        if self._took("("):
            while not self._took(")"):
                self._expect("$")
                name = self._name()
                self._expect(":")
                variables[name] = self._type()
                if self._took("="):
                    self._value()
        return Operation(kind, variables, self._selection())

    def _selection(self) -> list[Field]:
        self._expect("{")
        fields = []
        while not self._took("}"):
            fields.append(self._field())
        return fields

    def _field(self) -> Field:
        if self._took("..."):
            if self._name() != "on":
                raise ParseError("Expected an inline fragment; named fragments are not served")
            return Field("", "", on=self._name(), selection=self._selection())
        alias = name = self._name()
        if self._took(":"):
            name = self._name()
        made = Field(name, alias)
        if self._took("("):
            while not self._took(")"):
                key = self._name()
                self._expect(":")
                made.arguments[key] = self._value()
        if self.peek() == "{":
            made.selection = self._selection()
        return made

    def _value(self) -> Any:
        token = self._next()
        if token == "$":
            return Variable(self._name())
        if token == "{":
            made = {}
            while not self._took("}"):
                key = self._name()
                self._expect(":")
                made[key] = self._value()
            return made
        if token == "[":
            items = []
            while not self._took("]"):
                items.append(self._value())
            return items
        if token.startswith('"'):
            return token[1:-1].encode().decode("unicode_escape")
        if token in ("true", "false", "null"):
            return {"true": True, "false": False, "null": None}[token]
        return int(token) if re.fullmatch(r"-?\d+", token) else token

    def _type(self) -> str:
        text = ""
        while (token := self.peek()) is not None and (token in "[]!" or not text.strip("[")):
            text += self._next()
        return text

    def _name(self) -> str:
        token = self._next()
        if not re.fullmatch(r"[A-Za-z_]\w*", token):
            raise ParseError(f'Expected a name, actual: "{token}"')
        return token

    def _next(self) -> str:
        token = self.peek()
        if token is None:
            raise ParseError("Unexpected end of document")
        self._at += 1
        return token

    def _took(self, token: str) -> bool:
        if self.peek() != token:
            return False
        self._at += 1
        return True

    def _expect(self, token: str) -> None:
        if not self._took(token):
            raise ParseError(f'Expected "{token}", actual: "{self.peek()}"')
