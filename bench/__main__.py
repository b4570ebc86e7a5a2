"""Run the measurements that were named, or all of them, and print one table."""

import asyncio
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import action, doorbell, events, git, label, phases, sandboxes, webhook
from bench.stage import Figure

BENCHES = {
    "events": events.measure,
    "phases": phases.measure,
    "git": git.measure,
    "sandbox": sandboxes.measure,
    "doorbell": doorbell.measure,
    "webhook": webhook.measure,
    "label": label.measure,
    "action": action.measure,
}


def main() -> int:
    """Measure and print; returns 2 for a name that is none."""
    names = sys.argv[1:] or list(BENCHES)
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        print(f"no bench {unknown[0]!r}; there are: {', '.join(BENCHES)}", file=sys.stderr)
        return 2
    figures: list[Figure] = []
    for name in names:
        print(f"measuring {name} ...", file=sys.stderr)
        # closed folders would keep out the user that Postgres runs as where this runs as root
        folder = Path(tempfile.mkdtemp(prefix="devflow-bench-"))
        folder.chmod(0o711)
        try:
            figures += asyncio.run(BENCHES[name](folder))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    table = Table("what", "median", "bare", "ratio", "of", "goal", title=_machine(), title_justify="left")
    for one in figures:
        table.add_row(one.what, one.shown, one.shown_bare, one.ratio, str(one.samples), one.goal)
    Console(width=None if sys.stdout.isatty() else 150).print(table)
    return 0


def _machine() -> str:
    return f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main())
