"""What GitHub refused for want of a right, as errors that name it: somebody has to grant it, and must hear of it.

The inbox and the applier note such refusals as they meet them and go on with what is left; whoever runs the process
asks for `errors` at the end. Other refusals, as of a comment on a locked issue, are nobody's to mend from outside.
"""

import re

from app.github.faults import Gone, HostFault, Refused
from engine.domain.errors import DevflowError

_NEED = re.compile(r"([a-z_]{1,40})=(read|write|admin)")
_PLAIN = re.compile(r"[A-Z]+ [\w./-]+|\w+", re.ASCII)
_NO_ACCESS = ("not accessible by integration", "not accessible by personal access token")
_NO_PULLS = "not permitted to create or approve pull requests"
_SETTING = "GitHub Actions may not create or approve pull requests here"
# The part of an address, or the mutation, that shows what a call needs where GitHub does not say it itself.
_PLACES = (
    ("/check-runs", "checks"),
    ("/statuses", "statuses"),
    ("/pulls", "pull-requests"),
    ("/issues", "issues"),
    ("/labels", "issues"),
    ("PullRequest", "pull-requests"),
    ("addReaction", "pull-requests"),
    ("minimizeComment", "issues"),
)


def named(fault: HostFault) -> DevflowError | None:
    """Return the error that a fault stands for: `pull_request_forbidden`, `permission_missing`, None for others.

    Its texts hold nothing that others wrote, so they may be shown as they are.
    """
    if not isinstance(fault, Refused) or fault.status != 403:
        return None
    said = fault.message.casefold()
    if _NO_PULLS in said:
        return DevflowError("pull_request_forbidden", f"a setting keeps the run from having a pull request: {_SETTING}")
    if not any(words in said for words in _NO_ACCESS):
        return None
    permission = _permission(fault)
    return DevflowError(
        "permission_missing",
        f"the token lacks the permission `{permission}`{_for(fault.what)}",
        recovery_hint=f"add `{permission}` to `permissions:` of the workflow, or give the token or App that right",
        details={"permission": permission},
    )


def why_ended(fault: HostFault) -> DevflowError:
    """Return the error of work that a fault has ended: the missing right by its name, else what GitHub answered."""
    error = named(fault)
    if error is not None:
        return error
    if isinstance(fault, Gone):
        return DevflowError(
            "repository_not_found",
            f"GitHub does not show this to the token: {fault}",
            recovery_hint="see that the token is for this repository, and that what is named here is still there",
        )
    if isinstance(fault, Refused):
        return DevflowError(
            "permission_denied",
            f"GitHub does not let this be done: {fault}",
            recovery_hint="see whether a rule of the repository or of its organisation forbids it to the token",
        )
    return DevflowError("github_unavailable", f"GitHub does not answer: {fault}")


def _for(call: str) -> str:
    return f", which `{call}` needs" if _PLAIN.fullmatch(call) else ""


def _permission(refused: Refused) -> str:
    """Return the permission as a workflow has it; where several sets would do, of the first that GitHub names."""
    for pair in refused.needed.partition(";")[0].split(","):
        need = _NEED.fullmatch(pair.strip())
        if need is not None and need[1] != "metadata":
            return f"{need[1].replace('_', '-')}: {need[2]}"
    name = next((name for place, name in _PLACES if place in refused.what), "contents")
    return f"{name}: {'read' if refused.what.startswith('GET ') else 'write'}"


class Refusals:
    """What one process was refused for want of a right, by what it was about, until that is granted."""

    def __init__(self) -> None:
        self._noted: dict[str, DevflowError] = {}

    def note(self, about: str, fault: HostFault) -> DevflowError | None:
        """Keep a refusal and return its error; None, and nothing kept, where it is not for want of a right."""
        error = named(fault)
        if error is not None:
            self._noted[about] = error
        return error

    def over(self, about: str) -> None:
        """Forget a refusal: GitHub has taken it."""
        self._noted.pop(about, None)

    def of(self, about: str) -> DevflowError | None:
        """Return what this was refused with in this process, or None."""
        return self._noted.get(about)

    @property
    def errors(self) -> list[DevflowError]:
        """What was refused and still is, each missing right once, the first one first."""
        found: dict[tuple[str, str], DevflowError] = {}
        for error in self._noted.values():
            found.setdefault((error.code, str(error.details.get("permission"))), error)
        return list(found.values())
