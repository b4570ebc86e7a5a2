"""One repository at GitHub: everything that handlers and the projector ask of it and tell it.

Made by `GitHub.repository`. Calls run in threads and return frozen shapes; what goes wrong is one of the faults.
"""

import base64
import binascii
from typing import Any
from urllib.parse import quote

from app.github.checks import Checks
from app.github.faults import Gone, NoFile, Refused
from app.github.issues import Issues
from app.github.pulls import Pulls
from app.github.reading import Fields, Unreadable, as_object
from app.github.repository import quoted

_EMPTY_REPOSITORY = 409


class GitHubRepository(Issues, Pulls, Checks):
    """A repository's issues, pull requests, checks, files and addresses."""

    async def file(self, path: str, ref: str | None = None) -> bytes | None:
        """Return a file's bytes at a ref (None: the default branch), None where there is none.

        `NoFile` where the path is a folder or the file has more than 1 MB, which GitHub does not give this way.
        """
        try:
            answer = await self._fetch(f"contents/{quoted(path)}", {"ref": ref} if ref else {})
        except Gone:
            return None
        return self._read(_content_of, answer)

    async def branch_head(self, name: str) -> str | None:
        """Return the commit that a branch points to, None where there is no such branch."""
        try:
            fields = await self._get(f"git/ref/heads/{quoted(name)}")
        except Gone:
            return None
        except Refused as refused:
            if refused.status == _EMPTY_REPOSITORY:
                return None
            raise
        return self._read(_target_of, fields)

    async def tree_of(self, commit: str) -> str:
        """Return the tree of a commit; `Gone` or `Refused` (422) for one that is not there."""
        return self._read(_tree_of, await self._get(f"commits/{quoted(commit)}"))

    def issue_url(self, number: int) -> str:
        """Return the address of an issue's page."""
        return f"{self._page}/issues/{number}"

    def pull_url(self, number: int) -> str:
        """Return the address of a pull request's page."""
        return f"{self._page}/pull/{number}"

    def commit_url(self, sha: str) -> str:
        """Return the address of a commit's page."""
        return f"{self._page}/commit/{sha}"

    def blob_url(self, ref: str, path: str) -> str:
        """Return the address of a file's page at a branch or commit."""
        return f"{self._page}/blob/{quoted(ref)}/{quoted(path)}"

    def comment_url(self, number: int, comment_id: int, *, pull: bool = False) -> str:
        """Return the address of a comment on an issue, or on a pull request (`pull`)."""
        return f"{self.pull_url(number) if pull else self.issue_url(number)}#issuecomment-{comment_id}"

    @property
    def _page(self) -> str:
        return f"{self._host.server_url}/{quote(self.full_name, safe='/')}"


def _content_of(answer: Any) -> bytes:
    if isinstance(answer, list):
        raise NoFile("it is a folder")
    fields = as_object(answer)
    if fields.text("type") != "file" or fields.maybe_text("encoding") != "base64":
        raise NoFile("it is no ordinary file, or one of more than 1 MB")
    try:
        return base64.b64decode(fields.text("content"), validate=False)
    except (ValueError, binascii.Error):
        raise Unreadable("content is not in base64") from None


def _tree_of(fields: Fields) -> str:
    described = fields.child("commit")
    return described.child("tree").text("sha")


def _target_of(fields: Fields) -> str:
    return fields.child("object").text("sha")
