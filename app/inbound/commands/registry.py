"""Every comment command: its name, what follows it, who may use it and what it does.

The parser knows the words from here, the handler the permission, `/help` and the documentation the texts. To add a
command, add a row here and its function in `handlers/steering.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

PREFIX = "devflow"


class Who(StrEnum):
    """Who may use a command."""

    DECIDERS = "whoever may decide"
    EVERYBODY = "everybody"


class Argument(StrEnum):
    """What follows a command."""

    NOTHING = "nothing"
    VERSION = "a commit, or an amount such as +2.00"
    OPTIONAL_TEXT = "text, if any"
    TEXT = "text"


@dataclass(frozen=True)
class Command:
    """One row: `shown` is what stands for its argument in texts, `what` one sentence on what it does."""

    name: str
    shown: str
    argument: Argument
    who: Who
    what: str

    @property
    def usage(self) -> str:
        """The command as it is typed."""
        return f"/{self.name} {self.shown}".strip()


COMMANDS: tuple[Command, ...] = (
    Command(
        "approve",
        "[sha]",
        Argument.VERSION,
        Who.DECIDERS,
        "Approve what the gate asks about; with a commit, only if that is what the gate stands for. "
        "At a budget gate, `+2.00` says by how many US dollars the cap rises.",
    ),
    Command("reject", "<why>", Argument.OPTIONAL_TEXT, Who.DECIDERS, "Reject it: the run has failed."),
    Command("revise", "<feedback>", Argument.TEXT, Who.DECIDERS, "Send the work back with what to change."),
    Command("abort", "[why]", Argument.OPTIONAL_TEXT, Who.DECIDERS, "End the run, whatever it is doing."),
    Command("pause", "", Argument.OPTIONAL_TEXT, Who.DECIDERS, "Stop the run at its next safe point."),
    Command("resume", "", Argument.NOTHING, Who.DECIDERS, "Let a paused run go on."),
    Command(
        "retry",
        "",
        Argument.NOTHING,
        Who.DECIDERS,
        "Start a new run from the completed phases of a failed or aborted one.",
    ),
    Command("status", "", Argument.NOTHING, Who.EVERYBODY, "Say where the run stands."),
    Command("help", "", Argument.NOTHING, Who.EVERYBODY, "List the commands."),
)
BY_NAME = {command.name: command for command in COMMANDS}


def table(*, prefixed: bool) -> Sequence[tuple[str, str, str]]:
    """Return what is typed, what it does and who may, a row a command."""
    lead = f"/{PREFIX} " if prefixed else "/"
    return [(lead + command.usage.removeprefix("/"), command.what, str(command.who)) for command in COMMANDS]
