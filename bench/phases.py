"""What the engine itself costs a phase: a recorded agent that submits at once, so that nobody thinks in between."""

import asyncio
import statistics
import time
from pathlib import Path

from bench.stage import Figure, engine, start_run, workflow_repository
from engine.domain.states import RunState

PHASES = 8
SAMPLES = 5


async def measure(folder: Path) -> list[Figure]:
    """Return the time of a run of one phase, and of each further phase."""
    one, many = [], []
    for number in range(SAMPLES + 1):  # by turns, so that whatever else the machine does hits both alike
        one.append(await _run(folder / f"one{number}", 1))
        many.append(await _run(folder / f"many{number}", PHASES))
    first, last = statistics.median(one[1:]), statistics.median(many[1:])
    return [
        Figure("a run of one phase, start to report", first, SAMPLES),
        Figure(f"a run of {PHASES} phases", last, SAMPLES, first),
        Figure("each further phase: session, artifact, commit, push", (last - first) / (PHASES - 1), SAMPLES),
    ]


async def _run(folder: Path, phases: int) -> float:
    folder.mkdir(mode=0o711)
    repository = workflow_repository(folder / "repository", phases)
    async with engine(folder) as opened:
        began = time.perf_counter()
        run_id = await start_run(opened, repository, phases)
        stop = asyncio.Event()
        worker = asyncio.create_task(opened.worker(run_id).run(stop))
        while True:
            row = await opened.row(run_id)
            if RunState(row["state"]).terminal and row["final_report_path"]:
                break
            await asyncio.sleep(0.01)
        taken = time.perf_counter() - began
        stop.set()
        await worker
    if row["state"] != RunState.COMPLETED:
        raise RuntimeError(f"the run is {row['state']}: {row['error_message']}")
    return taken
