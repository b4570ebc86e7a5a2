"""The labels of a repository and those on an issue."""

from typing import Any

from tests.github_double.call import REPOSITORY, Answer, Call, route
from tests.github_double.records import Label
from tests.github_double.refusal import Refused, invalid, not_found
from tests.github_double.shapes import repositories

_READ = ("issues:read", "pull_requests:read")
_WRITE = ("issues:write", "pull_requests:write")
_ON_ISSUE = REPOSITORY + "/issues/{issue_number}/labels"


@route("GET", REPOSITORY + "/labels", *_READ)
def list_labels(call: Call) -> Any:
    """Every label."""
    return call.page([_shape(call, each) for each in call.repository.labels])


@route("POST", REPOSITORY + "/labels", *_WRITE)
def create_label(call: Call) -> Any:
    """A new label."""
    name = call.needed("name")
    if _named(call, name) is not None:
        raise invalid("Label", "name", "already_exists")
    made = call.repository.label_named(name)
    made.color = call.text("color") or made.color
    made.description = call.text("description")
    return Answer(201, _shape(call, made))


@route("GET", REPOSITORY + "/labels/{name}", *_READ)
def get_label(call: Call) -> Any:
    """One label."""
    return _shape(call, _wanted(call))


@route("PATCH", REPOSITORY + "/labels/{name}", *_WRITE)
def update_label(call: Call) -> Any:
    """Another name, colour or description."""
    label = _wanted(call)
    label.name = call.text("new_name") or label.name
    label.color = call.text("color") or label.color
    label.description = call.text("description") or label.description
    return _shape(call, label)


@route("DELETE", REPOSITORY + "/labels/{name}", *_WRITE)
def delete_label(call: Call) -> Any:
    """The label's end, everywhere."""
    label = _wanted(call)
    call.repository.labels.remove(label)
    for issue in call.repository.numbered.values():
        if label in issue.label_objects:
            issue.label_objects.remove(label)
    return Answer(204)


@route("GET", _ON_ISSUE, *_READ)
def list_on_issue(call: Call) -> Any:
    """The labels on an issue."""
    return call.page([_shape(call, each) for each in call.issue().label_objects])


@route("POST", _ON_ISSUE, *_WRITE)
def add_to_issue(call: Call) -> Any:
    """Labels put on beside those that are there."""
    issue = call.issue()
    for name in _names(call):
        issue.label(call.user, name)
    return [_shape(call, each) for each in issue.label_objects]


@route("PUT", _ON_ISSUE, *_WRITE)
def set_on_issue(call: Call) -> Any:
    """These labels and no others."""
    issue, names = call.issue(), _names(call)
    for name in [name for name in issue.labels if name not in names]:
        issue.unlabel(call.user, name)
    for name in names:
        issue.label(call.user, name)
    return [_shape(call, each) for each in issue.label_objects]


@route("DELETE", _ON_ISSUE + "/{name}", *_WRITE)
def remove_from_issue(call: Call) -> Any:
    """One label taken off."""
    issue = call.issue()
    issue.unlabel(call.user, call.parts["name"])
    return [_shape(call, each) for each in issue.label_objects]


def _names(call: Call) -> list[str]:
    # PyGithub sends a bare list, which the double's parser keeps under this name.
    given = call.body.get("labels") or []
    names = [each if isinstance(each, str) else each.get("name") for each in given]
    if not names or not all(isinstance(each, str) for each in names):
        raise Refused(422, 'Invalid request.\n\n"labels" wasn\'t supplied.')
    return names


def _named(call: Call, name: str) -> Label | None:
    return next((each for each in call.repository.labels if each.name.lower() == name.lower()), None)


def _wanted(call: Call) -> Label:
    label = _named(call, call.parts["name"])
    if label is None:
        raise not_found()
    return label


def _shape(call: Call, label: Label) -> dict[str, Any]:
    return repositories.label(call.world, call.repository, label)
