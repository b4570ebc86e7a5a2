"""`devflow action`: reads what GitHub Actions gives a step, has the step done, and tells the runner what came of it."""

import logging
import os
from dataclasses import replace
from pathlib import Path

from app.action.environment import StepEnvironment, read_environment, secrets_in
from app.action.opening import Given
from app.action.outcome import Outcome
from app.action.step import act
from app.action.summary import log_lines, outputs, summary
from app.action.telling import Teller
from app.action.workflow_commands import RunnerLog, write_outputs, write_summary
from app.settings import read_cassette, read_seconds_between_writes, read_settings
from engine.agents.replay_agent import parse_cassette
from engine.domain.errors import EXIT_FAILED, DevflowError, error_of
from engine.settings import Settings

_log = logging.getLogger(__name__)


async def run_action() -> int:
    """Do one step; returns its exit code."""
    with RunnerLog(secrets_in(os.environ)) as log:
        try:
            environment = read_environment(os.environ)
        except DevflowError as error:
            log.show_error(error)
            write_outputs(_file("GITHUB_OUTPUT"), outputs(Outcome("", error=error)))
            write_summary(_file("GITHUB_STEP_SUMMARY"), summary(Outcome("", error=error)))
            return EXIT_FAILED
        outcome = await _act(environment, log)
        for each in outcome.errors:
            log.show_error(each)
        log.say(log_lines(outcome))
        write_outputs(environment.output, outputs(outcome))
        if outcome.is_ours:
            write_summary(environment.step_summary, summary(outcome))
        return outcome.exit_code


async def _act(environment: StepEnvironment, log: RunnerLog) -> Outcome:
    try:
        cassette = read_cassette(environment.cassette)
        if cassette is not None:
            parse_cassette(cassette[1], cassette[0])
        settings = _settings(environment)
        given = Given(environment, settings, Teller(log), cassette, read_seconds_between_writes())
    except DevflowError as error:
        return Outcome("", error=error)
    try:
        return await act(given)
    except Exception as raised:  # noqa: BLE001 - told below, with a code
        # the last stop: whoever reads the job's page gets a code, and the log has the rest
        _log.exception("nobody foresaw this")
        return Outcome("", error=error_of(raised))


def _file(variable: str) -> Path | None:
    return Path(path) if (path := os.environ.get(variable)) else None


def _settings(environment: StepEnvironment) -> Settings:
    """Return the engine's settings: the step's inputs over the variables of its environment.

    What an embedded database and the work trees hold is thrown away with the step.
    """
    given = read_settings()
    folder: Path = environment.temp / "devflow"
    return replace(
        given,
        data_dir=folder,
        workspace_root=None,
        database_url=environment.database_url or given.database_url,
        openai_api_key=environment.openai_api_key or given.openai_api_key,
        openai_base_url=environment.base_url or given.openai_base_url,
        model=environment.model or given.model,
        config_path=environment.config,
        budget_usd=environment.budget_usd or given.budget_usd,
        sandbox=given.sandbox if environment.sandbox == "auto" else environment.sandbox,
    )
