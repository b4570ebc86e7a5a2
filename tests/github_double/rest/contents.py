"""Files, branches, refs and commits of a repository's git."""

import base64
from typing import Any

from tests.github_double.call import REPOSITORY, Answer, Call, route
from tests.github_double.refusal import Refused, not_found
from tests.github_double.shapes import commits

_INLINE = 1_000_000  # bytes; larger files come without content


@route("GET", REPOSITORY + "/contents/{path}", "contents:read")
def get_content(call: Call) -> Any:
    """A file with its content in base64, or a folder's list, at `ref` (the default branch)."""
    repository, path = call.repository, call.parts["path"].strip("/")
    ref = call.query.get("ref") or repository.default_branch
    commit = repository.git.resolve(ref)
    if commit is None:
        raise Refused(404, f"No commit found for the ref {ref}")
    entries = repository.git.entries(commit, path)
    if not entries:
        raise not_found()
    if len(entries) > 1 or entries[0][0] != "blob" or entries[0][3] != path:
        return [commits.file_entry(call.world, repository, entry, ref) for entry in entries]
    content = repository.git.read(commit, path) or b""
    small = len(content) <= _INLINE
    shape = commits.file_entry(call.world, repository, entries[0], ref)
    text = base64.encodebytes(content).decode() if small else ""
    return shape | {"content": text, "encoding": "base64" if small else "none"}


@route("GET", REPOSITORY + "/branches/{branch}", "contents:read")
def get_branch(call: Call) -> Any:
    """A branch with its last commit."""
    name = call.parts["branch"]
    sha = call.repository.branches().get(name)
    if sha is None:
        raise Refused(404, "Branch not found")
    return commits.branch(call.world, call.repository, name, call.repository.git.info(sha))


@route("GET", REPOSITORY + "/git/ref/{ref}", "contents:read")
def get_ref(call: Call) -> Any:
    """One ref, named like `heads/main`; also one that is no branch and no tag."""
    name = f"refs/{call.parts['ref']}"
    sha = call.repository.git.refs("refs").get(name)
    if sha is None:
        raise not_found()
    return commits.ref(call.world, call.repository, name, sha)


@route("GET", REPOSITORY + "/git/matching-refs/{ref}", "contents:read")
def list_matching_refs(call: Call) -> Any:
    """The refs that begin with a text, those that are no branches and no tags too."""
    begin = f"refs/{call.parts['ref']}"
    found = {name: sha for name, sha in call.repository.git.refs("refs").items() if name.startswith(begin)}
    return call.page([commits.ref(call.world, call.repository, name, sha) for name, sha in sorted(found.items())])


@route("POST", REPOSITORY + "/git/refs", "contents:write")
def create_ref(call: Call) -> Any:
    """A new branch at a commit."""
    name, sha = call.needed("ref"), call.needed("sha")
    if not name.startswith("refs/heads/") or call.repository.git.resolve(sha) is None:
        raise Refused(
            422, "Object does not exist" if name.startswith("refs/") else "Reference name must start with refs/"
        )
    if name in call.repository.git.refs():
        raise Refused(422, "Reference already exists")
    call.repository.git.set_ref(name, sha)
    call.repository.refs_changed(call.user)
    return Answer(201, commits.ref(call.world, call.repository, name, sha))


@route("DELETE", REPOSITORY + "/git/refs/{ref}", "contents:write")
def delete_ref(call: Call) -> Any:
    """A ref deleted, named like `heads/topic`."""
    name = call.parts["ref"]
    if name.startswith("heads/"):
        call.repository.delete_branch(name.removeprefix("heads/"), call.user)
    elif f"refs/{name}" in call.repository.git.refs("refs"):
        call.repository.git.delete_ref(f"refs/{name}")
        call.repository.refs_changed(call.user)
    else:
        raise Refused(422, "Reference does not exist")
    return Answer(204)


@route("GET", REPOSITORY + "/commits/{ref}", "contents:read")
def get_commit(call: Call) -> Any:
    """One commit."""
    return commits.commit(call.world, call.repository, call.repository.git.info(call.commit("ref")))
