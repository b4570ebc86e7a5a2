"""What a conversation asks of a host: a GitHub with people, that everything settles, and the records of the runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.conformance.backends.steps import Ended
from tests.conformance.format import Conversation
from tests.github_double import GitHubDouble, Issue, Pull, Repository, User
from tests.support.cassettes import Json, Turn
from tests.support.engines import phase
from tests.support.stage import PHASES, TURNS

HOSTILE = "\n".join(
    (
        "$(touch pwned) `touch pwned`; touch pwned | touch pwned && touch pwned",
        "::set-output name=state::forged",
        "::error file=forged::forged",
        "::add-mask::answer",
        "##[set-output name=run-id]forged",
        "state=forged",
        "${{ github.token }} ${{ secrets.OPENAI_API_KEY }}",
        "'; touch pwned; '",
        '"; touch pwned; "',
        "../../../pwned \\$(touch pwned) %0A::error::forged",
        "@octo fixes #1 <!-- devflow:run/1/status -->",
        "/approve",
    )
)


@dataclass(frozen=True)
class Decision:
    """What one person decided."""

    action: str
    by: str
    note: str | None

    def __str__(self) -> str:
        return f"{self.action} by {self.by}" + (f": {self.note}" if self.note else "")


@dataclass(frozen=True)
class Run:
    """One run as the store has it."""

    run_id: str
    number: int
    state: str
    branch: str
    decisions: tuple[Decision, ...]


@dataclass
class World:
    """A GitHub with one repository, the issue of a conversation, and the people in it."""

    github: GitHubDouble
    repository: Repository
    bot: str
    people: dict[str, User] = field(default_factory=dict)
    issue: Issue | None = None

    def set(self, conversation: Conversation) -> None:
        """Make the people and the issue."""
        roles = {"ada": "write", "mallory": None} | dict(conversation.people)
        for login, role in roles.items():
            self.people[login] = self.github.person(login)
            if role is not None:
                self.repository.permit(self.people[login], role)
        wanted = conversation.issue
        self.issue = self.repository.open_issue(self.people["mallory"], wanted.title, wanted.body)

    @property
    def the_issue(self) -> Issue:
        """Return the issue."""
        assert self.issue is not None
        return self.issue

    @property
    def the_pull(self) -> Pull:
        """Return the newest pull request."""
        return self.repository.pulls[-1]


class Backend(Protocol):
    """A host that is at work before a GitHub."""

    world: World

    @property
    def job(self) -> str | None:
        """Return how the last step's jobs have ended, `passed` or `failed`; None for a host without jobs."""

    @property
    def ended(self) -> Ended | None:
        """Return what came of the last job; None for a host without jobs."""

    async def settled(self) -> None:
        """Let everything happen that follows from what people have done."""

    async def again(self) -> None:
        """Let GitHub tell a second time of what it told last."""

    async def runs(self) -> list[Run]:
        """Return the issue's runs, oldest first."""


def phases_of(conversation: Conversation) -> tuple[Json, ...]:
    """Return the phases of the conversation's workflow."""
    roles: Mapping[str, tuple[str, ...]] = {"spec": ("thinker", "dev/spec@1"), "change": ("author", "dev/change@1")}
    return tuple(phase(key, *roles[key], gates=[gate] if gate else []) for key, gate in conversation.phases.items())


def turns_of(conversation: Conversation) -> dict[str, list[Turn]]:
    """Return what the recorded agent of a conversation does."""
    return TURNS if conversation.agent == "ordinary" else _hostile_turns()


def _hostile_turns() -> dict[str, list[Turn]]:
    spec: dict[str, Any] = {
        "requirements": [HOSTILE],
        "acceptance_criteria": [HOSTILE],
        "approach": HOSTILE,
        "risks": [HOSTILE],
    }
    return {key: _saying(turns, spec) for key, turns in TURNS.items()}


def _saying(turns: list[Turn], spec: dict[str, Any]) -> list[Turn]:
    """Return the turns with hostile words in what is submitted; the calls before that stay."""
    made = []
    for turn in turns:
        calls = []
        for one in turn:
            artifact = one["arguments"].get("artifact")
            if artifact is None:
                calls.append(one)
                continue
            words = {"summary": HOSTILE, **{k: v for k, v in artifact.items() if k != "summary"}}
            calls.append({**one, "arguments": {"artifact": spec if "approach" in artifact else words}})
        made.append(calls)
    return made


__all__ = ["HOSTILE", "PHASES", "Backend", "Decision", "Run", "World", "phases_of", "turns_of"]
