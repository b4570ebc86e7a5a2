"""A repository: its git, its issues and pull requests, who may do what, and what people do with it."""

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.github_double import webhooks
from tests.github_double.bare import ZERO, BareRepository
from tests.github_double.issue import Issue
from tests.github_double.people import ROLES, Installation, User, node_id
from tests.github_double.pull import Pull
from tests.github_double.records import CheckRun, Label, Status
from tests.github_double.refusal import Refused, invalid
from tests.github_double.world import World

_EMAIL = re.compile(r"^(\d+)\+[^@]+@users\.noreply\.")


class Repository:
    """One repository; `numbered` holds issues and pull requests by their number, `lost` what became of others."""

    def __init__(
        self, world: World, owner: User, name: str, *, private: bool, drafts: bool, default_branch: str
    ) -> None:
        self.world = world
        self.id = world.new_id("repository")
        self.owner = owner
        self.name = name
        self.private = private
        self.drafts = drafts
        self.actions_may_open_pulls = True  # the setting; off in new repositories of people's own
        self.archived = False
        self.default_branch = default_branch
        self.created_at = self.pushed_at = world.now()
        self.roles: dict[int, str] = {owner.id: "admin"}
        self.labels: list[Label] = []
        self.numbered: dict[int, Issue] = {}
        self.lost: dict[int, Issue | None] = {}
        self._numbers = itertools.count(1)
        self.check_runs: list[CheckRun] = []
        self.commit_statuses: list[Status] = []
        self.git = BareRepository(world.folder / f"{self.id}.git")
        self.git.create(default_branch)
        self._known_refs: dict[str, str] = {}
        self._suites: dict[str, int] = {}
        world.repositories[self.id] = self
        world.nodes[self.node_id] = self

    @property
    def node_id(self) -> str:
        """The global id."""
        return node_id("R", self.id)

    @property
    def full_name(self) -> str:
        """`owner/name`."""
        return f"{self.owner.login}/{self.name}"

    @property
    def git_dir(self) -> Path:
        """The bare repository's folder."""
        return self.git.folder

    @property
    def installation(self) -> Installation | None:
        """The installation of the App that has this repository."""
        for each in self.world.installations.values():
            if not each.deleted and self.id in each.repository_ids:
                return each
        return None

    @property
    def installation_id(self) -> int:
        """The id of that installation; raises where the App is not installed."""
        installation = self.installation
        if installation is None:
            raise LookupError(f"the App is not installed on {self.full_name}")
        return installation.id

    @property
    def issues(self) -> list[Issue]:
        """The issues that are no pull requests, oldest first."""
        return [each for each in self.numbered.values() if not each.is_pull]

    @property
    def pulls(self) -> list[Pull]:
        """The pull requests, oldest first."""
        return [each for each in self.numbered.values() if isinstance(each, Pull)]

    # People and their rights

    def permit(self, who: User, role: str) -> None:
        """Give a person a role: none, read, triage, write, maintain or admin."""
        if role not in ROLES:
            raise ValueError(f"{role} is none of {', '.join(ROLES)}")
        self.roles[who.id] = role

    def role_of(self, who: User) -> str:
        """Return a person's effective role; everybody reads a public repository."""
        return self.roles.get(who.id, "none" if self.private else "read")

    def email_of(self, who: User) -> str:
        """Return the address that commits of a user carry."""
        return f"{who.id}+{who.login}@users.noreply.github.com"

    def user_of_email(self, email: str) -> User | None:
        """Return the user whose address this is."""
        found = _EMAIL.match(email)
        if found is None:
            return None
        return next((each for each in self.world.users.values() if each.id == int(found[1])), None)

    # Git

    def branches(self) -> dict[str, str]:
        """Return each branch with its head."""
        return {
            ref.removeprefix("refs/heads/"): sha
            for ref, sha in self.git.refs().items()
            if ref.startswith("refs/heads/")
        }

    def head(self, branch: str) -> str:
        """Return the head of a branch; raises KeyError where there is none."""
        return self.branches()[branch]

    def read(self, revision: str, path: str) -> str | None:
        """Return a text file as it is at a branch or commit, None where there is none."""
        commit = self.git.resolve(revision)
        content = None if commit is None else self.git.read(commit, path)
        return None if content is None else content.decode()

    def commit(
        self, branch: str, files: Mapping[str, str | bytes | None], by: User, message: str = "Change files"
    ) -> str:
        """Push a commit to a branch (made from the default branch where it is new) as a person; returns its SHA."""
        with self.world.lock:
            heads = self.branches()
            parent = heads.get(branch) or heads.get(self.default_branch)
            email = self.email_of(by)
            made = self.git.commit(
                branch, files, parent=parent, message=message, name=by.login, email=email, at=self.world.now()
            )
            self.refs_changed(by)
            return made

    def force_push(self, branch: str, to: str, by: User) -> None:
        """Set a branch to another commit of the repository, as a person's forced push does."""
        with self.world.lock:
            self.git.set_ref(f"refs/heads/{branch}", to)
            self.refs_changed(by)

    def delete_branch(self, name: str, by: User) -> None:
        """Delete a branch; closes the pull requests of it."""
        with self.world.lock:
            if name not in self.branches():
                raise Refused(422, "Reference does not exist")
            self.git.delete_ref(f"refs/heads/{name}")
            self.refs_changed(by)

    def refuse_pushes(self, pattern: str, message: str) -> None:
        """Refuse pushes over HTTP to refs of a shell pattern (`refs/heads/x*`), as a repository rule does."""
        self.git.refuse(pattern, message)

    def refs_changed(self, by: User) -> None:
        """Compare the refs with what was known and send what follows; called after each change, in any way."""
        with self.world.lock:
            known, self._known_refs = self._known_refs, self.git.refs()
            for ref in sorted(known.keys() | self._known_refs.keys()):
                before, after = known.get(ref, ZERO), self._known_refs.get(ref, ZERO)
                if before != after:
                    self.pushed_at = self.world.now()
                    self._ref_changed(by, ref, before, after)

    def _ref_changed(self, by: User, ref: str, before: str, after: str) -> None:
        if before == ZERO:
            webhooks.on_ref(self, "create", by, ref)
        if after == ZERO:
            webhooks.on_ref(self, "delete", by, ref)
        webhooks.on_push(self, by, ref, before, after)
        branch = ref.removeprefix("refs/heads/")
        for pull in self.pulls:
            if pull.state == "open" and pull.head_ref == branch:
                if after == ZERO:
                    pull.close(by)
                else:
                    pull.moved(by, before, after)

    # Issues and pull requests

    def open_issue(self, by: User, title: str, body: str = "", labels: tuple[str, ...] = ()) -> Issue:
        """Open an issue."""
        with self.world.lock:
            issue = Issue(self, self._next_number(), by, title, body)
            self.numbered[issue.number] = issue
            webhooks.on_issue(issue, "opened", by)
            for name in labels:
                issue.label(by, name)
            return issue

    def open_pull(
        self, by: User, title: str, head: str, base: str | None = None, body: str | None = "", *, draft: bool = False
    ) -> Pull:
        """Open a pull request of a branch; refused as GitHub refuses it."""
        with self.world.lock:
            base = base or self.default_branch
            head = head.removeprefix(f"{self.owner.login}:")
            heads = self.branches()
            if head not in heads:
                raise invalid("PullRequest", "head", "invalid")
            if base not in heads:
                raise invalid("PullRequest", "base", "invalid")
            if draft:
                self.check_drafts()
            if any(each.state == "open" and each.head_ref == head and each.base_ref == base for each in self.pulls):
                words = f"A pull request already exists for {self.owner.login}:{head}."
                raise _pull_refused(words)
            if self.git.is_ancestor(heads[head], heads[base]):
                raise _pull_refused(f"No commits between {base} and {head}")
            pull = Pull(self, self._next_number(), by, title, body, head=head, base=base, draft=draft)
            self.numbered[pull.number] = pull
            webhooks.on_issue(pull, "opened", by)
            return pull

    def lose(self, number: int, to: Issue | None) -> None:
        """Have an issue here no more: it went `to` another repository, or was deleted (None)."""
        self.lost[number] = to
        self.world.nodes.pop(self.numbered.pop(number).node_id, None)

    def check_drafts(self) -> None:
        """Raise where the repository's plan has no drafts."""
        if not self.drafts:
            raise Refused(422, "Draft pull requests are not supported in this repository.")

    def label_named(self, name: str) -> Label:
        """Return the label of that name, made where there is none."""
        for label in self.labels:
            if label.name.lower() == name.lower():
                return label
        made = Label(self.world.new_id("label"), name)
        self.labels.append(made)
        return made

    # Checks

    def checks(self, sha: str) -> list[CheckRun]:
        """Return the check runs of a commit, oldest first."""
        return [run for run in self.check_runs if run.head_sha == sha]

    def statuses(self, sha: str) -> list[Status]:
        """Return the statuses of a commit, newest first."""
        return [each for each in reversed(self.commit_statuses) if each.sha == sha]

    def check_suite_id(self, sha: str) -> int:
        """Return the id of the App's check suite of a commit."""
        return self._suites.setdefault(sha, 40_000_000_001 + len(self._suites))

    # The repository itself

    def rename(self, full_name: str, by: User | None = None) -> None:
        """Give it another name; the old one leads to it from now on."""
        with self.world.lock:
            old = self.name
            self.world.moved[self.full_name.lower()] = self.id
            login, _, self.name = full_name.partition("/")
            self.owner = self.world.person(login)
            changes: dict[str, Any] = {"repository": {"name": {"from": old}}}
            webhooks.on_repository(self, "renamed", by or self.owner, changes=changes)

    def delete(self, by: User | None = None) -> None:
        """Delete it."""
        with self.world.lock:
            webhooks.on_repository(self, "deleted", by or self.owner)
            del self.world.repositories[self.id]
            for installation in self.world.installations.values():
                installation.repository_ids.discard(self.id)

    def archive(self, by: User | None = None) -> None:
        """Make it read-only."""
        with self.world.lock:
            self.archived = True
            webhooks.on_repository(self, "archived", by or self.owner)

    def _next_number(self) -> int:
        return next(self._numbers)


def _pull_refused(message: str) -> Refused:
    error: dict[str, Any] = {"resource": "PullRequest", "code": "custom", "message": message}
    return Refused(422, "Validation Failed", [error])
