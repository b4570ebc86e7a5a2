"""What GitHub answers when it refuses: one exception that carries status, message and errors.

Raised by the state's own rules, so a person's action in a test and a request over HTTP are refused alike.
"""

from typing import Any

DOCS = "https://docs.github.com/rest"


class Refused(Exception):  # noqa: N818 - reads as what GitHub does
    """GitHub says no: `status` is the HTTP status, `errors` what a 422 lists, `headers` are added to the answer."""

    def __init__(
        self,
        status: int,
        message: str,
        errors: list[dict[str, Any] | str] | None = None,
        headers: dict[str, str] | None = None,
        documentation_url: str = DOCS,
    ) -> None:
        super().__init__(f"{status} {message}" + (f" {errors}" if errors else ""))
        self.status = status
        self.message = message
        self.errors = errors
        self.headers = headers or {}
        self.documentation_url = documentation_url

    def body(self) -> dict[str, Any]:
        """Return the JSON of the answer."""
        body: dict[str, Any] = {"message": self.message}
        if self.errors is not None:
            body["errors"] = self.errors
        return body | {"documentation_url": self.documentation_url, "status": str(self.status)}


def not_found() -> Refused:
    """Return what GitHub says of everything that is not there or that the caller may not know of."""
    return Refused(404, "Not Found")


def invalid(resource: str, field: str, code: str, message: str | None = None) -> Refused:
    """Return a 422 with one error of a field; `code` is GitHub's (`missing_field`, `invalid`, `custom`, ...)."""
    error: dict[str, Any] = {"resource": resource, "field": field, "code": code}
    if message is not None:
        error["message"] = message
    return Refused(422, "Validation Failed", [error])


def not_accessible(needed: str = "") -> Refused:
    """Return the 403 for an App without the permission; `needed` is like `issues=write`."""
    headers = {"X-Accepted-GitHub-Permissions": needed} if needed else {}
    return Refused(403, "Resource not accessible by integration", headers=headers)
