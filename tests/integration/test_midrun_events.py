"""Everything that may happen on GitHub in mid-run, row by row of the table that the documentation shows.

What shall do nothing happens to one run, one after the other; whatever else happens, to a run each. All of that twice:
to runs that wait at a gate, and to runs whose agents stand still in the middle of their work.
"""

from pathlib import Path
from typing import Any

import pytest
from githubkit_schemas.latest import webhooks

from app.inbound.midrun import ROWS, Effect, Row
from engine.domain.states import RunState
from tests.github_double import Issue
from tests.support.engines import phase
from tests.support.happenings import ALONE, HAPPENINGS, suspended, transferred_away
from tests.support.stage import PHASES, TURNS, Stage, stage
from tests.support.standstill import Standstill

GITHUB_APP_PAGE = Path(__file__).parents[2] / "docs" / "github-app.md"
# What every App is told of, whatever it has subscribed to.
UNASKED = ("installation", "installation_repositories", "github_app_authorization")
AT_WORK = (phase("change", gates=["change_approval"]),)
ROOM = {"worker_slots": 64, "max_concurrent_runs": 64, "max_concurrent_runs_per_repository": 64}
LONG = 200.0


def test_every_event_and_action_that_github_can_tell_the_app_has_its_row() -> None:
    (line,) = [line for line in GITHUB_APP_PAGE.read_text().splitlines() if line.startswith("| Subscribe to events |")]
    events = [name.strip().lower().replace(" ", "_") for name in line.split("|")[2].split(",")]
    every = set()
    for event in (*events, *UNASKED):
        actions = getattr(webhooks, f"{event}_action_types")
        every |= {f"{event}.{action}" for action in actions} if isinstance(actions, dict) else {event}

    assert {told for row in ROWS for told in row.told_by} == every
    assert [row.key for row in ROWS] == list(HAPPENINGS)
    assert len(every) > 70


async def tell(play: Stage, issue: Issue, row: Row) -> None:
    """Send what a row names and the double has not told by itself, as if it were about this issue and its pull."""
    told = {f"{one.event}.{one.action}" for one in play.github.deliveries} | {"push", "delete"}
    for name in row.told_by:
        if name not in told:
            event, _, action = name.partition(".")
            play.github.send(event, await _payload(play, issue, event) | ({"action": action} if action else {}))


async def _payload(play: Stage, issue: Issue, event: str) -> dict[str, Any]:
    like = {"check_run": "pull_request", "check_suite": "pull_request", "github_app_authorization": "installation"}
    payloads = [one.payload for one in play.github.deliveries if one.event == like.get(event, event)]
    payload: dict[str, Any] = payloads[-1]
    if event in ("check_run", "check_suite"):
        pull = await play.pull(issue)
        payload = payload | {event: {"head_sha": pull.head_sha, "external_id": "x", "id": 1}}
        del payload["pull_request"]
    return payload


async def _began(play: Stage, still: Standstill | None, *places: Stage) -> list[Issue]:
    """Label an issue in each place, and wait until all of their runs are at the gate or at work."""
    issues = []
    for place in places:
        issues.append(place.issue())
        issues[-1].label(place.ada, "devflow")
    if still is None:
        await play.settled(LONG)
    else:
        await still.reached(len(places))
        await play.heard(LONG)
        repositories = {place.repository for place in places}
        await play.until(lambda: sum(len(one.pulls) for one in repositories) == len(places), LONG)
    return issues


@pytest.mark.timeout(400)
@pytest.mark.parametrize("state", ["at_gate", "at_work"])
async def test_what_happens_in_mid_run_does_what_the_table_says(tmp_path: Path, database_url: str, state: str) -> None:
    still = Standstill(tmp_path) if state == "at_work" else None
    turns = TURNS if still is None else TURNS | {"change/1/1": [[still.call], *TURNS["change/1/1"]]}
    phases = PHASES if still is None else AT_WORK
    resting = RunState.AWAITING_APPROVAL if still is None else RunState.EXECUTING
    async with stage(tmp_path, database_url, turns=turns, phases=phases, settings=ROOM) as play:
        quiet = [row for row in ROWS if getattr(row, state) is Effect.NOTHING]
        loud = [(row, one) for row in ROWS if getattr(row, state) is not Effect.NOTHING for one in HAPPENINGS[row.key]]
        loud += [(row, transferred_away) for row in ROWS if row.key == "transferred"]  # its sentence says what it does
        places = [
            play.elsewhere(f"owner-{number}/answers") if one in ALONE else play for number, (_, one) in enumerate(loud)
        ]
        calm = play.elsewhere("calm/answers")
        unmoved, *issues = await _began(play, still, calm, *places)

        for row in quiet:
            for one in HAPPENINGS[row.key]:
                await one(calm, unmoved)
                await tell(calm, unmoved, row)
                await (play.settled(LONG) if still is None else play.heard(LONG))
                (run,) = await calm.runs(unmoved)
                assert (run["state"], run["requested_action"]) == (resting, None), row.key
        for place, (_, one), issue in zip(places, loud, issues, strict=True):
            await one(place, issue)
        await play.heard(LONG)
        if still is not None:
            still.let_go()
        await play.settled(LONG)

        wrong = {}
        for place, (row, one), issue in zip(places, loud, issues, strict=True):
            effect = Effect.ENDS if one is transferred_away else getattr(row, state)
            found, code = await _seen(place, issue)
            # a row says with which error a run stops, where nobody has told it to stop
            if found not in _EXPECTED[effect] or f"`{code}`" not in f"{row.does} `paused_by_person` `None`":
                wrong[one.__name__] = (found, code)
        assert wrong == {}
        assert await _seen(calm, unmoved) == ((RunState.AWAITING_APPROVAL, ["pending"]), None)
        assert not [outcome for outcome in await play.outcomes() if outcome[1] in ("failed", "unreadable")]
        # the one that nothing moved goes on to its end; one that lost the App for a while can be tried again
        unmoved.comment(play.ada, "/approve")
        lost = [one for _, one in loud].index(suspended)
        play.github.unsuspend(places[lost].repository)
        issues[lost].comment(play.ada, "/retry")
        await play.settled(LONG)
        assert await calm.state(unmoved) == RunState.COMPLETED
        assert await places[lost].state(issues[lost]) == RunState.AWAITING_APPROVAL


async def _seen(place: Stage, issue: Issue) -> tuple[tuple[RunState, list[str]], str | None]:
    """Return the state of the issue's one run with the states of its questions, and its error."""
    (run,) = await place.runs(issue)
    asked = [one["state"] for one in await place.host.engine.requests(run["run_id"])]
    return (RunState(run["state"]), asked), run["error_code"]


_EXPECTED: dict[Effect, list[tuple[RunState, list[str]]]] = {
    Effect.ENDS: [(RunState.ABORTED, ["aborted"]), (RunState.ABORTED, [])],
    Effect.PAUSES: [(RunState.PAUSED, ["pending"]), (RunState.PAUSED, [])],
    Effect.DECIDES: [(RunState.COMPLETED, ["approved"])],
    Effect.ASKS_ANEW: [(RunState.AWAITING_APPROVAL, ["superseded", "pending"])],
}
