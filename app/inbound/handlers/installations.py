"""The App's place at GitHub: repositories that it was given or loses, and their names.

What a repository is called is written down with every delivery of its. A repository that we lose ends its runs: nothing
of theirs could be published any more.
"""

from app.github.events import (
    InstallationChanged,
    RepositoryDeleted,
    RepositoryEdited,
    RepositoryEvent,
    RepositoryRenamed,
    RepositoryTransferred,
)
from app.github.shapes import Person
from app.inbound.context import Context, House
from app.inbound.responses import Handled, ignored
from app.inbound.router import on
from engine.domain.errors import DevflowError
from engine.store import hosted


async def renamed(context: Context, event: RepositoryEvent) -> Handled:
    """Do nothing more: the new name is written down already, and everything asks by it from now on."""
    return Handled(f"it is {event.repository.full_name}, default branch {event.repository.default_branch}")


on(RepositoryRenamed)(renamed)
on(RepositoryTransferred)(renamed)
on(RepositoryEdited)(renamed)


@on(RepositoryDeleted)
async def deleted(context: Context, event: RepositoryDeleted) -> Handled:
    """End the repository's runs."""
    return await lose(context.house, event.repository.id, event.sender, "the repository was deleted")


async def installation_changed(house: House, event: InstallationChanged) -> Handled:
    """Let go of the repositories that the App was taken from; it comes back to them with their next delivery."""
    async with house.database.read() as tx:
        ours = [row["repository_id"] for row in await hosted.by_installation(tx, event.installation_id)]
    lost = ours
    if event.action not in ("deleted", "suspend"):
        # one that has come to another account meanwhile is that one's
        removed = {repository.id for repository in event.removed}
        lost = [repository_id for repository_id in ours if repository_id in removed]
    for repository_id in lost:
        await lose(house, repository_id, event.sender, _REASONS.get(event.action, "the App lost the repository"))
    if event.action == "unsuspend":
        async with house.database.transaction() as tx:
            for row in await hosted.by_installation(tx, event.installation_id):
                await hosted.mark_gone(tx, row["repository_id"], False)
    return Handled(f"{event.action}: {len(lost)} repositories lost") if lost else ignored(event.action)


async def lose(house: House, repository_id: int, by: Person, why: str) -> Handled:
    """Write down that a repository is gone for us, and end its runs."""
    async with house.database.transaction() as tx:
        await hosted.mark_gone(tx, repository_id, True)
    ended = 0
    for run in await house.engine.live_runs(repository_id):
        try:
            await house.engine.abort(run["run_id"], by.login, why, token=f"fact:{run['run_id']}", by_id=by.id)
        except DevflowError as error:
            if error.code != "run_already_terminal":
                raise
        else:
            ended += 1
    return Handled(f"{why}; ended {ended} runs")


_REASONS = {
    "deleted": "the App was uninstalled",
    "suspend": "the App was suspended",
    "removed": "the App was taken from the repository",
}
