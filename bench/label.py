"""From the label to a pull request that is ready for review: the whole App on the double, gates answered at once.

The recorded agent takes next to no time, so this is the time that the App, git, Postgres and GitHub's pace cost.
"""

import asyncio
import statistics
import time
from pathlib import Path

from bench.stage import Figure
from demo.server import CASSETTE, sample_files, sample_issue, serving
from tests.github_double import GitHubDouble
from tests.github_double.repository import Repository

_TIMES = 5
_GLANCE_SECONDS = 0.01
_PATIENCE_SECONDS = 120.0
_REST_SECONDS = 13.0


async def measure(folder: Path) -> list[Figure]:
    """Return the time with the pause between writes that GitHub asks for, beside the time without any."""
    polite = await asyncio.to_thread(_measure, folder / "polite", {})
    bare = await asyncio.to_thread(_measure, folder / "bare", {"DEVFLOW_GITHUB_SECONDS_BETWEEN_WRITES": "0"})
    what = "label to ready pull request, 5 phases, 3 gates (bare: no pause between writes)"
    return [Figure(what, statistics.median(polite), _TIMES, statistics.median(bare), at_most=10.0)]


def _measure(folder: Path, variables: dict[str, str]) -> list[float]:
    folder.mkdir()
    folder.chmod(0o711)  # the user that Postgres runs as has to get through where this runs as root
    with GitHubDouble(folder / "github") as github:
        repository = github.repository("octo/billsplit", files=sample_files())
        repository.permit(github.person("ada"), "write")
        with serving(github, folder, {"DEVFLOW_CASSETTE": str(CASSETTE)} | variables):
            taken = []
            for _ in range(_TIMES + 1):
                taken.append(_run(github, repository))
                time.sleep(_REST_SECONDS)  # each label finds the App rested, as after a quiet minute
    return taken[1:]  # the first time does not count


def _run(github: GitHubDouble, repository: Repository) -> float:
    ada = github.person("ada")
    pulls = len(repository.pulls)
    issue = repository.open_issue(ada, *sample_issue())
    began = time.perf_counter()
    issue.label(ada, "devflow")
    answered = 0
    while time.perf_counter() - began < _PATIENCE_SECONDS:
        time.sleep(_GLANCE_SECONDS)
        for pull in repository.pulls[pulls:]:
            if not pull.draft:
                return time.perf_counter() - began
            if sum("/gate/" in comment.body for comment in pull.comments) > answered:
                answered += 1
                pull.comment(ada, "/approve")
    raise RuntimeError("the run does not get on")
