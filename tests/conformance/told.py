"""What the job of a workflow tells at its end: compared with what a step of a conversation says that it tells."""

import re

from tests.conformance.backends.base import Run, World
from tests.conformance.backends.steps import Ended
from tests.conformance.format import Told


def check(world: World, runs: list[Run], ended: Ended, wanted: Told, where: str) -> None:
    """Compare what a job has told with what is wanted; a difference is shown with `where`."""
    known = _known(world, runs)
    outputs = {name: text.format(**known) for name, text in wanted.outputs.items()}
    assert ended.outputs == outputs, f"{where}: the outputs are {ended.outputs}"
    for part in wanted.summary:
        assert part in ended.summary, f"{where}: no {part!r} in the summary:\n{ended.summary}"
    places = [(one.kind, one.file, one.line) for one in ended.annotations]
    assert places == [(one.kind, one.file, one.line) for one in wanted.annotations], f"{where}:\n{ended.annotations}"
    for note, one in zip(wanted.annotations, ended.annotations, strict=True):
        assert note.says in one.message, f"{where}: no {note.says!r} in {one.message!r}"
    for title, part in wanted.groups.items():
        inside = re.search(rf"^::group::{re.escape(title)}$(.*?)^::endgroup::", ended.raw, re.DOTALL | re.MULTILINE)
        assert inside is not None, f"{where}: no group {title!r} in\n{ended.log}"
        assert part in inside[1], f"{where}: no {part!r} in the group {title!r} of\n{ended.log}"


def _known(world: World, runs: list[Run]) -> dict[str, str]:
    """Return what the texts of a conversation may name: the newest run, its pull request, and its report."""
    if not runs:
        return {}
    run, repository = runs[-1], world.repository
    path = f".devflow/runs/{run.run_id}/report.md"
    has_report = run.branch in repository.branches() and repository.read(run.branch, path) is not None
    address = f"{world.github.server_url}/{repository.full_name}/blob/{run.branch}/{path}"
    return {
        "run": run.run_id,
        "pull": str(world.the_pull.number) if repository.pulls else "",
        "report": address if has_report else "there is none on the branch",
    }
