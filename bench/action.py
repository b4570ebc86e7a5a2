"""A step of the Action: from its start to what it does first, and to its end, with all that it needs in the cache.

The runner is the tests' own and GitHub their double, so this is what the Action itself costs: Python's start, imports,
an embedded Postgres, the state behind its ref, git. A machine of GitHub's needs some seconds before that.
"""

import asyncio
import statistics
import time
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from bench.stage import Figure
from engine.store.embedded import open_embedded
from engine.store.migrate import upgrade
from tests.action_runner.job import Host
from tests.action_runner.runner import ActionRunner
from tests.github_double import GitHubDouble
from tests.support.cassettes import cassette
from tests.support.engines import config, workflow
from tests.support.stage import CODE, PHASES, TURNS

_TIMES = 7
_GLANCE_SECONDS = 0.005
_CASSETTE = "recorded.yaml"


async def measure(folder: Path) -> list[Figure]:
    """Return the times of a label's step without and with a database, and of a comment that is none of ours."""
    without = await _measure(_made(folder / "without"), None)
    server = await open_embedded(_made(folder / "postgres"))
    try:
        await upgrade(server.url)
        shared = await _measure(_made(folder / "with"), server.url.replace("+asyncpg", ""))
    finally:
        await server.close()
    return [
        Figure("step start to the first sign on the issue (bare: database-url)", without[0], _TIMES, shared[0]),
        Figure("step start to the open gate and its end (bare: database-url)", without[1], _TIMES, shared[1]),
        Figure("step of a comment that is none of ours, start to end", without[2], _TIMES, at_most=3.0),
    ]


async def _measure(folder: Path, database_url: str | None) -> tuple[float, float, float]:
    """Return the medians: to the first sign, to the end, and of a step that has nothing to do."""
    files = {"answer.py": CODE, ".devflow/workflows/small.yaml": workflow(*PHASES), ".github/devflow.yml": config()}
    with GitHubDouble(folder / "github") as github:
        repository = github.repository("octo/answers", files)
        ada = github.person("ada")
        repository.permit(ada, "write")
        events: SimpleQueue[tuple[str, dict[str, Any]]] = SimpleQueue()
        github.on_workflow_event = lambda name, payload: events.put((name, payload))
        host = Host(
            repository.full_name,
            repository.id,
            github.actions_token(repository).text,
            github.api_url,
            github.server_url,
            repository.default_branch,
        )
        runner = ActionRunner(_made(folder / "jobs"), host=host)
        inputs = {"sandbox": "none", "cassette": _CASSETTE} | ({"database-url": database_url} if database_url else {})
        firsts, ends, idles = [], [], []
        for number in range(_TIMES + 1):
            issue = repository.open_issue(ada, "The answer is wrong", "answer() must return 42.")
            while not events.empty():
                events.get()
            issue.label(ada, "devflow")
            name, payload = events.get(timeout=5)
            began = time.perf_counter()
            step = runner.start(name, payload, inputs=inputs, files={_CASSETTE: cassette(TURNS)})
            while not issue.reactions:  # noqa: ASYNC110 - GitHub sets no event
                await asyncio.sleep(_GLANCE_SECONDS)
            first = time.perf_counter() - began
            done = await step.finished()
            if done.outputs["state"] != "awaiting_approval":
                raise RuntimeError(f"the step came to something else:\n{done.log}")
            issue.comment(ada, "What a day.")
            name, payload = events.get(timeout=5)
            idle = await _seconds(runner, name, payload)
            if number:  # the first time does not count
                firsts.append(first)
                ends.append(sum(done.seconds.values()))
                idles.append(idle)
        return statistics.median(firsts), statistics.median(ends), statistics.median(idles)


async def _seconds(runner: ActionRunner, name: str, payload: dict[str, Any]) -> float:
    done = await runner.run(name, payload, inputs={"sandbox": "none"})
    if done.exit_code:
        raise RuntimeError(done.log)
    return sum(done.seconds.values())


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    folder.chmod(0o755)  # the user that Postgres runs as has to get through where this runs as root
    return folder
