"""What the engine asks of the program that hosts it: how to reach the repository of a run.

The terminal answers with a path, the GitHub side with an URL and a short-lived credential; the engine sees neither.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Remote:
    """Where a repository is fetched from and pushed to.

    `url` is anything git takes as one and never contains a credential; `environment` is added to the environment of
    git's network commands (`GIT_ASKPASS`, `GIT_SSH_COMMAND`, `GIT_CONFIG_COUNT` and its like) and never stored.
    `refused`, where the host can give another credential, is told that the server does not take this one.
    `before_push`, of a host whose database may be lost with the machine, is awaited before anything of a run is pushed.
    """

    url: str
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    refused: Callable[[], None] | None = field(default=None, repr=False, compare=False)
    before_push: "Keep | None" = field(default=None, repr=False, compare=False)


Keep = Callable[[], Awaitable[None]]
"""Returns when everything that is committed so far would survive this machine; raises where it would not."""


async def kept_by_database() -> None:
    """Do nothing: where the database outlives the machine, what is committed is kept."""


class Remotes(Protocol):
    """Knows the remote of each repository; asked anew before each fetch and push, because credentials run out."""

    async def remote(self, repository_id: int, location: str) -> Remote:
        """Return the repository's remote; `location` is how the host named it when the first run was created.

        Raises `repository_not_found` for one that is gone.
        """
