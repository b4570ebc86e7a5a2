"""The `devflow` command: one function a command, each a few lines over the engine's facade."""

import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated

import typer

from app import VERSION
from app.local import commands, console, inspection, snapshots
from app.local.drive import Approve
from app.settings import read_settings
from engine.domain.errors import EXIT_OK, EXIT_PAUSED, EXIT_REFUSED, DevflowError, Effect, error_of
from engine.domain.states import Action, RunState
from engine.settings import Settings

_log = logging.getLogger(__name__)
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

app = typer.Typer(
    name="devflow",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
consent_app = typer.Typer(no_args_is_help=True, help="Consent to personas that ask for it.")
audit_app = typer.Typer(no_args_is_help=True, help="Verify what happened.")
db_app = typer.Typer(no_args_is_help=True, help="The database.")
app.add_typer(consent_app, name="consent")
app.add_typer(audit_app, name="audit")
app.add_typer(db_app, name="db")

RunRef = Annotated[str, typer.Argument(metavar="RUN", help="A run id, or 4 or more digits of its begin or end.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
AsName = Annotated[str | None, typer.Option("--as", metavar="NAME", help="Who you are; default: git's user.email.")]
Note = Annotated[
    str | None, typer.Option("--note", metavar="TEXT", help="Why, what to change, or '+2.00' for a budget.")
]
ApproveMode = Annotated[
    Approve | None, typer.Option("--approve", help="Who answers the gates; default: ask on a terminal, else never.")
]
RepoPath = Annotated[Path, typer.Option("--repo", metavar="PATH", help="A folder of the git repository.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        console.tell(f"devflow {VERSION}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Take an issue through a workflow of phases, each done by an AI persona and approved by a person."""


def _execute(work: Callable[[Settings], Awaitable[int]], *, as_json: bool) -> None:
    try:
        code = asyncio.run(_with_settings(work))
    except KeyboardInterrupt:
        code = EXIT_PAUSED
    except Exception as raised:  # noqa: BLE001 - the last stop: whatever it is, it is told with a code
        error = error_of(raised)
        if not isinstance(raised, DevflowError):
            _log.debug("nobody foresaw this", exc_info=raised)
            error.recovery_hint = "this may be a bug in Devflow; DEVFLOW_LOG_LEVEL=DEBUG shows where it happened"
        console.show_error(error, as_json=as_json)
        # what a run can be paused for is a refusal where there is no run
        code = EXIT_REFUSED if error.spec.effect is Effect.PAUSED else error.spec.exit_code
    raise typer.Exit(code)


async def _with_settings(work: Callable[[Settings], Awaitable[int]]) -> int:
    return await work(read_settings())


def _budget(text: str | None) -> Decimal | None:
    if text is None:
        return None
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal(0)
    if not amount.is_finite() or not 0 < amount <= 1_000_000:
        raise typer.BadParameter("give US dollars above 0, such as 2.50")
    return amount


@app.command()
def run(
    repo: RepoPath,
    issue: Annotated[str, typer.Option(metavar="FILE|-", help="The issue's text; - reads standard input.")],
    workflow: Annotated[
        str | None, typer.Option(metavar="NAME", help="Default: the repository's own choice, else development.")
    ] = None,
    base: Annotated[str | None, typer.Option(metavar="BRANCH", help="Default: the branch that HEAD is on.")] = None,
    approve: ApproveMode = None,
    persona: Annotated[list[str] | None, typer.Option(metavar="ROLE=NAME", help="Fill a role by name.")] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="Use this model for every persona.")] = None,
    budget_usd: Annotated[str | None, typer.Option(metavar="N", help="The most that the run may cost.")] = None,
    check: Annotated[list[str] | None, typer.Option(metavar="CMD", help="Add a check that must pass.")] = None,
    sandbox: Annotated[commands.SandboxMode | None, typer.Option(help="How commands are confined.")] = None,
    cassette: Annotated[Path | None, typer.Option(metavar="FILE", help="Use a recorded agent.")] = None,
    as_name: AsName = None,
    as_json: AsJson = False,
) -> None:
    """Start a run and drive it until it ends, pauses or waits at a gate."""
    options = commands.RunOptions(
        repo=repo,
        issue=issue,
        workflow=workflow,
        base=base,
        personas=persona or [],
        model=model,
        budget_usd=_budget(budget_usd),
        checks=check or [],
        sandbox=sandbox,
        cassette=cassette,
    )
    _execute(lambda settings: commands.run(settings, options, approve, as_name, as_json), as_json=as_json)


@app.command()
def resume(
    run_ref: RunRef,
    approve: ApproveMode = None,
    as_name: AsName = None,
    as_json: AsJson = False,
) -> None:
    """Continue a run in this process: a paused one, one whose process is gone, or one that waits at a gate."""
    _execute(lambda settings: commands.resume(settings, run_ref, approve, as_name, as_json), as_json=as_json)


def _decision_command(action: Action, text: str) -> None:
    def command(
        run_ref: RunRef,
        note: Note = None,
        sha: Annotated[str | None, typer.Option(metavar="SHA", help="The commit that you looked at.")] = None,
        as_name: AsName = None,
        as_json: AsJson = False,
    ) -> None:
        _execute(
            lambda settings: commands.answer(settings, run_ref, action, note, sha, as_name, as_json), as_json=as_json
        )

    app.command(name=str(action), help=text)(command)


_decision_command(Action.APPROVE, "Approve what the run's gate asks about.")
_decision_command(Action.REJECT, "Reject it: the run fails.")
_decision_command(Action.REVISE, "Send the work back with --note saying what to change.")
_decision_command(Action.ABORT, "End the run, whatever it is doing.")


@app.command()
def pause(run_ref: RunRef, note: Note = None, as_name: AsName = None, as_json: AsJson = False) -> None:
    """Stop a run at its next safe point."""
    _execute(lambda settings: commands.pause(settings, run_ref, note, as_name, as_json), as_json=as_json)


@app.command()
def retry(
    run_ref: RunRef,
    approve: ApproveMode = None,
    as_name: AsName = None,
    as_json: AsJson = False,
) -> None:
    """Start a new run that adopts the completed phases of a failed or aborted one, and drive it."""
    _execute(lambda settings: commands.retry(settings, run_ref, approve, as_name, as_json), as_json=as_json)


@app.command()
def runs(
    state: Annotated[RunState | None, typer.Option(help="Only runs in this state.")] = None, as_json: AsJson = False
) -> None:
    """List runs, newest first."""
    _execute(lambda settings: inspection.runs(settings, state, as_json), as_json=as_json)


@app.command()
def show(run_ref: RunRef, as_json: AsJson = False) -> None:
    """Show where a run stands and what it has left so far."""
    _execute(lambda settings: inspection.show(settings, run_ref, as_json), as_json=as_json)


@app.command()
def events(
    run_ref: RunRef,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until the run ends.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print a run's events."""
    _execute(lambda settings: inspection.events(settings, run_ref, follow, as_json), as_json=as_json)


@app.command()
def validate(
    path: Annotated[Path, typer.Argument(metavar="[PATH]", help="A repository, or one file in it.")] = Path(),
    as_json: AsJson = False,
) -> None:
    """Check a repository's workflows, personas, schemas and configuration."""
    _execute(lambda _: inspection.validate(path, as_json), as_json=as_json)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Say what this machine has and lacks for running Devflow."""
    _execute(lambda settings: inspection.doctor(settings, as_json), as_json=as_json)


@consent_app.command("grant")
def consent_grant(persona: str, repo: RepoPath = Path(), as_name: AsName = None, as_json: AsJson = False) -> None:
    """Consent to a persona, as it is now, for one repository."""
    _execute(lambda settings: commands.consent_grant(settings, repo, persona, as_name, as_json), as_json=as_json)


@consent_app.command("revoke")
def consent_revoke(persona: str, repo: RepoPath = Path(), as_json: AsJson = False) -> None:
    """Take back the consent to a persona."""
    _execute(lambda settings: commands.consent_revoke(settings, repo, persona, as_json), as_json=as_json)


@consent_app.command("list")
def consent_list(as_json: AsJson = False) -> None:
    """List all consents, newest first."""
    _execute(lambda settings: inspection.consent_list(settings, as_json), as_json=as_json)


@audit_app.command("verify")
def audit_verify(
    source: Annotated[
        str, typer.Argument(metavar="RUN|FILE", help="A run as in other commands, or a snapshot; a file comes first.")
    ],
    as_json: AsJson = False,
) -> None:
    """Verify the hash chain of a run's events; of a snapshot everything that can be verified, without a database."""
    _execute(lambda settings: snapshots.verify(settings, source, as_json), as_json=as_json)


@app.command(name="export")
def export_run(
    run_ref: RunRef,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write it; default: standard output.")
    ] = None,
    without_conversations: Annotated[
        bool, typer.Option("--without-conversations", help="Leave out what models and tools said.")
    ] = False,
) -> None:
    """Write a run with all its rows as a snapshot: for support, or for another database."""
    _execute(
        lambda settings: snapshots.export_run(settings, run_ref, output, conversations=not without_conversations),
        as_json=False,
    )


@app.command(name="import")
def import_run(
    source: Annotated[str, typer.Argument(metavar="FILE|-", help="A snapshot; - reads standard input.")],
    as_json: AsJson = False,
) -> None:
    """Write the run of a snapshot into the database; the same run again changes nothing."""
    _execute(lambda settings: snapshots.import_run(settings, source, as_json), as_json=as_json)


@app.command()
def serve(
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen; a reverse proxy stands before it.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(metavar="PORT", min=0, max=65_535, help="0 takes any free one.")] = 8000,
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="Runs driven here at once; 0 leaves all work to `devflow worker`."),
    ] = None,
) -> None:
    """Be a GitHub App's server: take webhooks, start and steer runs, show them on GitHub."""

    async def work(settings: Settings) -> int:
        from app.serving import serve as serve_app  # the web parts, which no other command needs

        return await serve_app(settings, host, port, workers)

    _execute(work, as_json=False)


@app.command()
def worker(
    concurrency: Annotated[int | None, typer.Option(metavar="N", min=1, help="Runs driven here at once.")] = None,
) -> None:
    """Do a server's work in another process or on another machine, with the same database."""

    async def work(settings: Settings) -> int:
        from app.serving import work as work_for_server  # the web parts, which no other command needs

        return await work_for_server(settings, concurrency)

    _execute(work, as_json=False)


@app.command()
def action() -> None:
    """Do one step of a GitHub Actions workflow: what its event asks for, until the run waits for somebody or ends."""

    async def work(settings: Settings) -> int:
        del settings  # a step reads its own, to tell the runner what is wrong with them
        from app.action.running import run_action  # GitHub's parts, which no local command needs

        return await run_action()

    _execute(work, as_json=False)


@db_app.command("upgrade")
def db_upgrade(as_json: AsJson = False) -> None:
    """Bring the database's tables up to this version."""
    _execute(lambda settings: inspection.db_upgrade(settings, as_json), as_json=as_json)


def main() -> None:
    """Entry point of the `devflow` command."""
    level = os.environ.get("DEVFLOW_LOG_LEVEL", "").upper()
    logging.basicConfig(
        stream=sys.stderr,
        level=level if level in _LEVELS else "WARNING",
        format="%(levelname)s %(name)s: %(message)s",
    )
    if sys.platform != "linux" or sys.version_info < (3, 11):
        error = DevflowError("platform_unsupported", "Devflow runs on Linux with Python 3.11 or later")
        console.show_error(error, as_json=False)
        sys.exit(error.spec.exit_code)
    app(prog_name="devflow")


__all__ = ["EXIT_OK", "app", "main"]


if __name__ == "__main__":
    main()
