"""Holds what a double sent and got against GitHub's published schemas; imported by tests only.

githubkit (a development dependency) has the schemas as pydantic models, and in its client the table of which endpoint
takes and gives which. The table is read from the client's source, so nothing of it is repeated here. Models are slow to
build, so each is built when it is first needed and then kept for the process.

The models are those of API version 2026-03-10. Answers may have more fields than the schema names (GitHub's do);
a field of a request that no schema names is an error.
"""

import ast
import datetime
import importlib.util
import json
import re
import textwrap
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from githubkit_schemas.latest import models, webhooks
from pydantic import Field, TypeAdapter, ValidationError

from tests.github_double.double import GitHubDouble
from tests.github_double.gate import UNSERVED, Request

_PACKAGE = models.BasicError.__module__.partition(".models.")[0] + ".rest"
_TOPICS = ("apps", "checks", "git", "issues", "pulls", "reactions", "repos", "users")
_ENDPOINT = re.compile(r"^        (GET|POST|PUT|PATCH|DELETE) (/\S+)$", re.MULTILINE)
_BODY_ENDS = re.compile(r"^    (?:@overload|async def |def )", re.MULTILINE)

_PLAIN = {
    "list": list,
    "dict": dict,
    "str": str,
    "int": int,
    "bool": bool,
    "float": float,
    "Field": Field,
    "PYDANTIC_V2": True,
    "_dt": datetime,
}
# Older paths that GitHub still serves and PyGithub still asks, under the ones that are published now.
_PUBLISHED = {"/repos/{owner}/{repo}/statuses/{sha}": "/repos/{owner}/{repo}/commits/{ref}/statuses"}
# What GitHub lists besides, by its own description of the types of events, and what the schema of the list leaves out.
_LISTED_BESIDES = {"/repos/{owner}/{repo}/issues/{issue_number}/events": "StateChangeIssueEvent"}


@dataclass(frozen=True)
class Endpoint:
    """The names of the models of one endpoint, as expressions of the client's source; None where it has no body.

    `query` has the type of each parameter of its query; one that may be left out is `Missing[...]`.
    """

    takes: str | None
    gives: str | None
    refuses: dict[int, str]
    query: dict[str, str]


class _Models(dict[str, Any]):
    def __missing__(self, name: str) -> Any:
        return getattr(models, name)


def assert_all_valid(github: GitHubDouble) -> None:
    """Raise AssertionError with every request, answer and webhook so far that GitHub's schemas do not allow.

    `tests/conftest.py` has it called for every double at its end.
    """
    problems = list(_problems(github))
    assert not problems, "against GitHub's schemas:\n" + "\n".join(problems)


def _problems(github: GitHubDouble) -> Iterator[str]:
    for request in list(github.requests):
        if request.template is not None and request.done is not None:  # else it was cut off
            for problem in problems_of_call(request):
                yield f"{request.method} {request.template} ({request.status}): {problem}"
    for delivery in list(github.deliveries):
        if delivery.made_by_hand:
            continue
        for problem in problems_of_webhook(delivery.event, delivery.body):
            yield f"webhook {delivery.event}.{delivery.action}: {problem}"


def problems_of_call(request: Request) -> list[str]:
    """Return what is wrong with one call: its body where it was taken, and its answer."""
    if request.template == UNSERVED:
        return [f"the double does not serve {request.path}"]
    endpoint = endpoint_of(request.method, request.template or "")
    if endpoint is None:
        return ["GitHub has no such endpoint"]
    found = []
    status = request.done or 0
    if status < 400:
        found += [f"request: {each}" for each in _request_problems(endpoint, request.body)]
        found += [f"query: {each}" for each in _query_problems(endpoint, request.query)]
    if request.answer:
        expression = endpoint.gives if status < 300 else endpoint.refuses.get(status, "BasicError")
        if expression is None:
            found.append("answer: there should be none")
        else:
            found += [f"answer: {each}" for each in _check(expression, request.answer)]
    elif status < 300 and endpoint.gives is not None:
        found.append("answer: there is none")
    return found


def problems_of_webhook(event: str, body: bytes) -> list[str]:
    """Return what is wrong with a webhook's body."""
    kinds = getattr(webhooks, f"{event}_action_types", None)
    if kinds is None:
        return ["GitHub has no such event"]
    if isinstance(kinds, dict):
        action = json.loads(body).get("action")
        if action not in kinds:
            return [f"{event} has no action {action}"]
        kinds = kinds[action]
    return _errors(lambda: _adapter_of(kinds).validate_json(body, strict=True))


def _request_problems(endpoint: Endpoint, body: Any) -> list[str]:
    if body is None:
        return []
    if endpoint.takes is None:
        return [] if body == {} else ["the endpoint takes no body"]
    return _check(endpoint.takes, json.dumps(body).encode(), extra="forbid")


def _query_problems(endpoint: Endpoint, query: str) -> list[str]:
    found = []
    given = parse_qsl(query, keep_blank_values=True)
    for name, value in given:
        if name in endpoint.query:
            found += [f"{name}{each}" for each in _check_text(endpoint.query[name], value)]
        else:
            found.append(f"{name}: the endpoint has no such parameter")
    needed = {name for name, expression in endpoint.query.items() if not _may_miss(expression)}
    return found + [f"{name}: is needed" for name in sorted(needed - {name for name, _ in given})]


@cache
def _places() -> dict[tuple[str, str], tuple[str, int]]:
    """Return where each endpoint stands in the client's source: by method and nameless template, (text, position)."""
    found = importlib.util.find_spec(_PACKAGE)
    assert found is not None
    folder = Path((found.submodule_search_locations or [""])[0])
    places: dict[tuple[str, str], tuple[str, int]] = {}
    for topic in _TOPICS:
        source = (folder / f"{topic}.py").read_text()
        for match in _ENDPOINT.finditer(source):
            # The asynchronous twin of a method comes second and says the same.
            places.setdefault((match[1], _nameless(match[2])), (source, match.end()))
    return places


@cache
def endpoint_of(method: str, template: str) -> Endpoint | None:
    """Return what an endpoint takes and gives, None where GitHub has no such endpoint."""
    published = _PUBLISHED.get(template, template) if method == "GET" else template
    place = _places().get((method, _nameless(published)))
    if place is None:
        return None
    source, at = place
    end = _BODY_ENDS.search(source, at)
    method_source = source[source.rindex("\n    def ", 0, at) : end.start() if end else len(source)]
    code = ast.parse(textwrap.dedent(method_source)).body[0]
    assert isinstance(code, ast.FunctionDef)
    types = {each.arg: ast.unparse(each.annotation) for each in code.args.kwonlyargs if each.annotation}
    takes, gives, refuses, query = None, None, {}, {}
    for node in ast.walk(code):
        if (
            isinstance(node, ast.Assign)
            and ast.unparse(node.targets[0]) == "params"
            and isinstance(node.value, ast.Dict)
        ):
            named = zip(node.value.keys, node.value.values, strict=True)
            query = {ast.literal_eval(key): types[ast.unparse(value)] for key, value in named if key}
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name) and node.func.id == "type_validate_python":
            takes = ast.unparse(node.args[0])
        for keyword in node.keywords:
            if keyword.arg == "response_model":
                gives = ast.unparse(keyword.value)
            elif keyword.arg == "error_models" and isinstance(keyword.value, ast.Dict):
                pairs = zip(keyword.value.keys, keyword.value.values, strict=True)
                refuses = {int(ast.literal_eval(key)): ast.unparse(value) for key, value in pairs if key}
    if gives is not None and published in _LISTED_BESIDES:
        gives = gives.replace("Union[", f"Union[{_LISTED_BESIDES[published]}, ", 1)
    return Endpoint(takes, gives, refuses, query)


def _nameless(template: str) -> str:
    return re.sub(r"\{\w+\}", "{}", template)


def _check(expression: str, body: bytes, **options: Any) -> list[str]:
    return _errors(lambda: _adapter(expression).validate_json(body, strict=True, **options))


@cache
def _adapter(expression: str) -> TypeAdapter[Any]:
    # The expression is source of the installed client, made of names of models and of typing's.
    return TypeAdapter(eval(expression, {"__builtins__": {}}, _Models(vars(typing) | _PLAIN)))


@cache
def _adapter_of(model: type) -> TypeAdapter[Any]:
    return TypeAdapter(model)


def _check_text(expression: str, value: str) -> list[str]:
    kind = expression.removeprefix("Missing[").removesuffix("]") if _may_miss(expression) else expression
    return _errors(lambda: _adapter(kind).validate_strings(value))


def _may_miss(expression: str) -> bool:
    return expression.startswith("Missing[")


def _errors(validate: Callable[[], Any]) -> list[str]:
    try:
        validate()
    except ValidationError as error:
        return [
            f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']} ({each['input']!r:.80})"
            for each in error.errors(include_url=False)
        ]
    return []
