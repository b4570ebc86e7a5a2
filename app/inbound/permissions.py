"""Who may do what: by the person's effective permission as GitHub says it now, and by the repository's list.

A permission is asked for by login, because GitHub knows no other way, and counts only where that login is still the
account that acted: logins are given up and taken by others, ids are not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.github.client import GitHubRepository
from app.github.shapes import Permission, Person
from engine.domain.errors import DevflowError
from engine.domain.states import Action
from engine.hosted import frozen_approvers


@dataclass(frozen=True)
class Approvers:
    """The people on the repository's list, by `names`, which are logins.

    `ids` are the accounts that had these logins when a run was started, by the login in lower case; None where no run
    is asked about, and the names are all there is. `only_by_name`: an account counts as long as it has its login, for
    where the ids are not proven.
    """

    names: tuple[str, ...] = ()
    ids: Mapping[str, int] | None = None
    only_by_name: bool = False

    def include(self, person: Person) -> bool:
        """Tell whether a person is on the list."""
        login = person.login.casefold()
        if self.ids is None:
            return login in {name.casefold() for name in self.names}
        if self.only_by_name:
            return self.ids.get(login) == person.id
        return person.id in self.ids.values()


@dataclass(frozen=True)
class Rules:
    """Who may decide about a run: everybody with write permission, and these people."""

    approvers: Approvers = Approvers()
    requester_may_approve: bool = True
    requested_by_id: int | None = None

    @classmethod
    def of_run(cls, options: Mapping[str, Any], metadata: Mapping[str, Any], *, only_by_name: bool) -> "Rules":
        """Return the rules that were frozen when the run was started.

        A login on the list that was nobody's then is nobody's for this run, and so are all in a run without any ids.
        """
        ids = frozen_approvers(options, metadata)
        names = tuple(name for name in options.get("approvers", ()) if name.casefold() in ids)
        return cls(
            approvers=Approvers(names, ids, only_by_name),
            requester_may_approve=bool(options.get("requester_may_approve", True)),
            requested_by_id=metadata.get("requested_by_id"),
        )


@dataclass(frozen=True)
class Standing:
    """A person and what they may do in the repository at this moment."""

    person: Person
    permission: Permission

    @property
    def is_known(self) -> bool:
        """Whether the login still belongs to the account that acted."""
        return self.permission.user_id == self.person.id and not self.person.is_bot

    @property
    def may_write(self) -> bool:
        """Whether the person may push."""
        return self.is_known and self.permission.may_write

    @property
    def may_triage(self) -> bool:
        """Whether the person may put labels on issues by hand."""
        return self.is_known and self.permission.may_triage


async def standing(github: GitHubRepository, person: Person) -> Standing:
    """Ask what a person may do; a bot may nothing and is not asked about."""
    if person.is_bot:
        return Standing(person, Permission("none", None))
    return Standing(person, await github.permission(person.login))


def may_steer(one: Standing, approvers: Approvers) -> bool:
    """Tell whether a person may start, answer, pause, resume, abort and retry runs."""
    return one.may_write or (one.is_known and approvers.include(one.person))


def check_decision(one: Standing, action: Action, rules: Rules) -> None:
    """Raise `permission_denied` where a person may not answer a gate this way."""
    if not may_steer(one, rules.approvers):
        raise denied(rules.approvers)
    own = one.person.id == rules.requested_by_id
    if action is Action.APPROVE and own and not rules.requester_may_approve:
        raise DevflowError(
            "permission_denied",
            "here, whoever asked for a run does not approve it; somebody else has to",
            details={"own": True},
        )


def denied(approvers: Approvers) -> DevflowError:
    """Return the refusal of somebody who may not steer runs."""
    return DevflowError(
        "permission_denied",
        "this needs write permission on the repository, or a place on its list of approvers",
        details={"approvers": list(approvers.names)},
    )
