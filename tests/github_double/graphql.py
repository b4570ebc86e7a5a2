"""GraphQL: the mutations that REST does not have, and looking nodes up.

Like GitHub's, it answers 200 with `errors` where something is wrong with the query or where it was refused.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.github_double import auth
from tests.github_double.auth import Caller
from tests.github_double.graphql_parser import Field, Operation, ParseError, Variable, parse
from tests.github_double.graphql_types import CONTENTS, INTERFACES, Shape, resolve, type_name
from tests.github_double.issue import Issue
from tests.github_double.pull import Pull
from tests.github_double.records import Comment, Reaction, Review, ReviewComment
from tests.github_double.refusal import Refused
from tests.github_double.repository import Repository
from tests.github_double.world import World

Json = dict[str, Any]
_CLASSIFIERS = {"SPAM", "ABUSE", "OFF_TOPIC", "OUTDATED", "DUPLICATE", "RESOLVED", "LOW_QUALITY"}
_REFUSED_TYPES = {401: "FORBIDDEN", 403: "FORBIDDEN", 404: "NOT_FOUND"}


class QueryError(Exception):
    """Something is wrong with the query itself: nothing of it is carried out."""


@dataclass(frozen=True)
class _Context:
    world: World
    caller: Caller


def execute(world: World, caller: Caller, body: Json) -> Json:
    """Carry out a query or mutation and return the body of the answer."""
    if caller.kind in ("none", "app"):
        raise Refused(401, "This endpoint requires you to be authenticated.")
    try:
        operation = parse(str(body.get("query", "")))
        fields = [_bound(each, body.get("variables") or {}, operation) for each in operation.selection]
        roots = {"query": _QUERIES, "mutation": _MUTATIONS}[operation.kind]
        for each in fields:
            if each.name not in roots and each.name != "__typename":
                raise QueryError(f"Field '{each.name}' doesn't exist on type '{operation.kind.capitalize()}'")
            _check_input(each, operation)
    except (ParseError, QueryError) as error:
        return {"errors": [{"message": str(error), "locations": [{"line": 1, "column": 1}]}]}
    context, data, errors = _Context(world, caller), {}, []
    for each in fields:
        try:
            data[each.alias] = _selected(context, roots[each.name](context, each), each.selection)
        except QueryError as error:
            return {"errors": [{"message": str(error), "locations": [{"line": 1, "column": 1}]}]}
        except Refused as refused:
            data[each.alias] = None
            kind = _REFUSED_TYPES.get(refused.status, "UNPROCESSABLE")
            message = "; ".join(str(error) for error in refused.errors or []) or refused.message
            place = [{"line": 1, "column": 1}]
            errors.append({"type": kind, "path": [each.alias], "locations": place, "message": message})
    return {"data": data} | ({"errors": errors} if errors else {})


def _bound(field: Field, variables: Json, operation: Operation) -> Field:
    """Return a field with the variables of its arguments replaced, all the way down."""
    arguments = {name: _value(value, variables, operation) for name, value in field.arguments.items()}
    selection = [_bound(each, variables, operation) for each in field.selection]
    return Field(field.name, field.alias, arguments, selection, field.on)


def _value(value: Any, variables: Json, operation: Operation) -> Any:
    if isinstance(value, Variable):
        if value.name not in operation.variables:
            raise QueryError(f"Variable ${value.name} is used but not declared")
        if operation.variables[value.name].endswith("!") and variables.get(value.name) is None:
            kind = operation.variables[value.name]
            raise QueryError(f"Variable ${value.name} of type {kind} was provided invalid value")
        return variables.get(value.name)
    if isinstance(value, dict):
        return {name: _value(each, variables, operation) for name, each in value.items()}
    return [_value(each, variables, operation) for each in value] if isinstance(value, list) else value


def _check_input(field: Field, operation: Operation) -> None:
    """Hold the input of a mutation against what it takes."""
    if field.name not in _INPUTS:
        return
    kind = field.name[0].upper() + field.name[1:] + "Input"
    for declared in operation.variables.values():
        if declared.strip("[]!").endswith("Input") and declared.strip("[]!") != kind:
            raise QueryError(f"Type mismatch on variable and argument input ({declared} / {kind}!)")
    given = field.arguments.get("input")
    if not isinstance(given, dict):
        raise QueryError(f"Field '{field.name}' is missing required arguments: input")
    needed = _INPUTS[field.name]
    for name in [*(given.keys() - set(needed) - {"clientMutationId"}), *needed]:
        wrong = None
        if name not in needed:
            wrong = f"Field is not defined on {kind}"
        elif given.get(name) is None:
            wrong = "Expected value to not be null"
        elif (allowed := needed[name]) is not None and given[name] not in allowed:
            wrong = f'Expected "{given[name]}" to be one of: {", ".join(sorted(allowed))}'
        if wrong is not None:
            raise QueryError(f"Variable $input of type {kind}! was provided invalid value for {name} ({wrong})")


def _selected(context: _Context, value: Any, selection: list[Field]) -> Any:
    if value is None or not selection:
        if isinstance(value, (str, int, bool, float, type(None))):
            return value
        raise QueryError(f"Field must have selections (it returns {type_name(value)})")
    if isinstance(value, list):
        return [_selected(context, each, selection) for each in value]
    answer: Json = {}
    kind = type_name(value)
    for each in selection:
        if each.on is not None:
            if each.on == kind or kind in INTERFACES.get(each.on, ()):
                answer |= _selected(context, value, each.selection)
        elif each.name == "__typename":
            answer[each.alias] = kind
        else:
            try:
                found = resolve(context.world, value, each.name)
            except KeyError:
                raise QueryError(f"Field '{each.name}' doesn't exist on type '{kind}'") from None
            answer[each.alias] = _selected(context, found, each.selection)
    return answer


def _home(value: Any) -> Repository | None:
    """Return the repository that a node belongs to."""
    if isinstance(value, Repository):
        return value
    if isinstance(value, Issue):
        return value.repository
    if isinstance(value, Comment):
        return value.issue.repository
    if isinstance(value, Review):
        return value.pull.repository
    return value.review.pull.repository if isinstance(value, ReviewComment) else None


def _node(context: _Context, given: Any, needs: tuple[str, ...], kinds: tuple[type, ...] = ()) -> Any:
    """Return a node that the caller may use like this."""
    value = context.world.nodes.get(given)
    home = _home(value)
    unknown = Refused(404, f"Could not resolve to a node with the global id of '{given}'")
    if value is None or (kinds and not isinstance(value, kinds)):
        raise unknown
    if home is not None:
        if home.id not in context.world.repositories or not auth.sees(context.caller, home):
            raise unknown
        auth.require(context.caller, home, needs)
    return value


_TALK = ("issues:write", "pull_requests:write")


def _mark_ready(context: _Context, field: Field) -> Shape:
    given = field.arguments["input"]
    pull = _node(context, given["pullRequestId"], ("pull_requests:write",), (Pull,))
    _check_open(pull)
    pull.ready_for_review(context.caller.acting())
    return _payload(field, pullRequest=pull)


def _convert(context: _Context, field: Field) -> Shape:
    given = field.arguments["input"]
    pull = _node(context, given["pullRequestId"], ("pull_requests:write",), (Pull,))
    _check_open(pull)
    pull.convert_to_draft(context.caller.acting())
    return _payload(field, pullRequest=pull)


def _check_open(pull: Pull) -> None:
    if pull.state != "open":
        raise Refused(422, "Pull request is closed")


def _minimize(context: _Context, field: Field) -> Shape:
    given = field.arguments["input"]
    subject = _node(context, given["subjectId"], _TALK, (Comment, Review, ReviewComment))
    subject.minimized_reason = given["classifier"].lower().replace("_", "-")
    return _payload(field, minimizedComment=subject)


def _unminimize(context: _Context, field: Field) -> Shape:
    subject = _node(context, field.arguments["input"]["subjectId"], _TALK, (Comment, Review, ReviewComment))
    subject.minimized_reason = None
    return _payload(field, unminimizedComment=subject)


def _add_reaction(context: _Context, field: Field) -> Shape:
    given = field.arguments["input"]
    subject = _node(context, given["subjectId"], _TALK, (Issue, Comment, Review, ReviewComment))
    issue = _conversation(subject)
    on = None if subject is issue else subject
    made, _ = issue.react(context.caller.acting(), CONTENTS[given["content"]], on)
    return _payload(field, reaction=made, subject=subject)


def _remove_reaction(context: _Context, field: Field) -> Shape:
    given = field.arguments["input"]
    subject = _node(context, given["subjectId"], _TALK, (Issue, Comment, Review, ReviewComment))
    found: Reaction | None = None
    for each in subject.reactions:
        if each.user is context.caller.user and each.content == CONTENTS[given["content"]]:
            found = each
    if found is None:
        raise Refused(422, "Reaction could not be removed")
    subject.reactions.remove(found)
    return _payload(field, reaction=found, subject=subject)


def _conversation(subject: Issue | Comment | Review | ReviewComment) -> Issue:
    if isinstance(subject, Issue):
        return subject
    if isinstance(subject, Comment):
        return subject.issue
    return subject.pull if isinstance(subject, Review) else subject.review.pull


def _payload(field: Field, **parts: Any) -> Shape:
    kind = field.name[0].upper() + field.name[1:] + "Payload"
    return Shape(kind, clientMutationId=field.arguments["input"].get("clientMutationId"), **parts)


def _by_repository(context: _Context, field: Field) -> Any:
    name = f"{field.arguments.get('owner')}/{field.arguments.get('name')}"
    found = context.world.find_repository(name)
    if found is None or not auth.sees(context.caller, found):
        raise Refused(404, f"Could not resolve to a Repository with the name '{name}'.")
    return found


def _viewer(context: _Context, field: Field) -> Shape:
    """Return who asks: a User always, also for a bot, whose login has its ending here and nowhere else."""
    who = context.caller.acting()
    return Shape("User", id=who.node_id, databaseId=who.id, login=who.login)


_READ = ("issues:read", "pull_requests:read", "metadata:read")
_QUERIES: dict[str, Callable[[_Context, Field], Any]] = {
    "node": lambda context, field: _node(context, field.arguments.get("id"), _READ),
    "nodes": lambda context, field: [_node(context, each, _READ) for each in field.arguments.get("ids") or []],
    "viewer": _viewer,
    "repository": _by_repository,
}
_MUTATIONS: dict[str, Callable[[_Context, Field], Any]] = {
    "markPullRequestReadyForReview": _mark_ready,
    "convertPullRequestToDraft": _convert,
    "minimizeComment": _minimize,
    "unminimizeComment": _unminimize,
    "addReaction": _add_reaction,
    "removeReaction": _remove_reaction,
}
_INPUTS: dict[str, dict[str, set[str] | None]] = {
    "markPullRequestReadyForReview": {"pullRequestId": None},
    "convertPullRequestToDraft": {"pullRequestId": None},
    "minimizeComment": {"subjectId": None, "classifier": _CLASSIFIERS},
    "unminimizeComment": {"subjectId": None},
    "addReaction": {"subjectId": None, "content": set(CONTENTS)},
    "removeReaction": {"subjectId": None, "content": set(CONTENTS)},
}
