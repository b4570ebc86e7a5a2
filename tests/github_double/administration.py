"""What its owner does to a repository as a whole and seldom: settings, labels, a transfer to another account."""

from typing import Any

from tests.github_double import webhooks
from tests.github_double.people import User
from tests.github_double.repository import Repository
from tests.github_double.shapes import people


def change_default_branch(repository: Repository, name: str, by: User) -> None:
    """Make another of its branches the default one."""
    with repository.world.lock:
        before, repository.default_branch = repository.default_branch, name
        webhooks.on_repository(repository, "edited", by, changes={"default_branch": {"from": before}})


def transfer(repository: Repository, to: User, by: User) -> None:
    """Give it to another account; the App keeps it where it is installed there, and else is told that it lost it."""
    world = repository.world
    with world.lock:
        before, old = repository.owner, repository.installation
        world.moved[repository.full_name.lower()] = repository.id
        repository.owner = to
        repository.roles[to.id] = "admin"
        new = next((each for each in world.installations.values() if each.account is to and not each.deleted), None)
        if old is not None:
            old.repository_ids.discard(repository.id)
            if new is None:
                webhooks.on_installation(world, old, "removed", by, [repository])
        if new is not None:
            new.repository_ids.add(repository.id)
        changes: dict[str, Any] = {"owner": {"from": {"user": people.user(world, before)}}}
        webhooks.on_repository(repository, "transferred", by, changes=changes)


def unarchive(repository: Repository, by: User) -> None:
    """Let it be written to again."""
    with repository.world.lock:
        repository.archived = False
        webhooks.on_repository(repository, "unarchived", by)


def delete_label(repository: Repository, name: str, by: User) -> None:
    """Delete a label; of each issue that had it, the webhook says that one was taken off, but no more which."""
    with repository.world.lock:
        label = repository.label_named(name)
        repository.labels.remove(label)
        for issue in repository.numbered.values():
            if label in issue.label_objects:
                issue.label_objects.remove(label)
                webhooks.on_issue(issue, "unlabeled", by)
