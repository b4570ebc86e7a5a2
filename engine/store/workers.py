"""Worker processes: who they are, and that they still live.

A worker says so by a heartbeat, in the database's time. On the worker's own machine its end shows sooner: a process is
known by host, boot, process id and the moment it started, so that a number used again is not taken for it.
"""

import os
import socket
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from sqlalchemy import ColumnElement, RowMapping, and_, delete, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert

from engine.domain.ids import uuid7
from engine.store.database import Transaction
from engine.store.tables import runs, workers

_FORGET_AFTER = text("interval '7 days'")


@dataclass(frozen=True)
class WorkerIdentity:
    """One worker; `boot_id` names boot and process-id namespace, `pid_started` is in clock ticks since boot."""

    worker_id: UUID
    host: str
    boot_id: str
    pid: int
    pid_started: str

    @classmethod
    def of_this_process(cls) -> "WorkerIdentity":
        """Return a new worker in this process; two workers in one process are two identities."""
        return cls(uuid7(), socket.gethostname(), _boot_id(), os.getpid(), _started(os.getpid()) or "")


async def register(tx: Transaction, worker: WorkerIdentity) -> None:
    """Write down that the worker lives, now, whether it was known or not."""
    statement = insert(workers).values(
        worker_id=worker.worker_id,
        host=worker.host,
        boot_id=worker.boot_id,
        pid=worker.pid,
        pid_started=worker.pid_started,
    )
    await tx.execute(
        statement.on_conflict_do_update(
            index_elements=["worker_id"], set_={"heartbeat_at": func.clock_timestamp(), "stopped_at": None}
        )
    )


async def stop(tx: Transaction, worker_id: UUID) -> None:
    """Write down that the worker has ended; that frees what it still holds."""
    await tx.execute(update(workers).where(workers.c.worker_id == worker_id).values(stopped_at=func.clock_timestamp()))


async def prune(tx: Transaction) -> None:
    """Delete workers that were last heard of a week ago and hold no run."""
    await tx.execute(
        delete(workers).where(
            workers.c.heartbeat_at < func.clock_timestamp() - _FORGET_AFTER,
            ~runs.select().where(runs.c.lease_worker == workers.c.worker_id).exists(),
        )
    )


def alive(dead_after_seconds: float) -> ColumnElement[bool]:
    """Return the condition that a row of `workers` was heard of lately and has not ended; never NULL."""
    limit = func.clock_timestamp() - timedelta(seconds=dead_after_seconds)
    return func.coalesce(and_(workers.c.stopped_at.is_(None), workers.c.heartbeat_at > limit), False)


def lives(worker: RowMapping) -> bool:
    """Whether a row of `workers`, selected with `alive` under that name, is a worker that lives."""
    return bool(worker["alive"]) and not is_gone(worker)


async def has_other_holder(tx: Transaction, holder: UUID | None, worker_id: UUID, dead_after_seconds: float) -> bool:
    """Whether `holder` is another worker than `worker_id`, and lives."""
    if holder is None or holder == worker_id:
        return False
    row = await tx.maybe(select(workers, alive(dead_after_seconds).label("alive")).where(workers.c.worker_id == holder))
    return row is not None and lives(row)


def may_be_free(holder: ColumnElement[UUID], worker_id: UUID, dead_after_seconds: float) -> ColumnElement[bool]:
    """Return the condition that a claim, joined with its worker's row, may be taken; `is_free` says it for certain."""
    here = workers.c.host == socket.gethostname()  # only there can `is_gone` know more than the heartbeat
    return or_(holder.is_(None), holder == worker_id, ~alive(dead_after_seconds), here)


def is_free(claim: RowMapping, worker_id: UUID) -> bool:
    """Whether a row with `claimed_by`, its worker's columns and `alive` may be claimed by `worker_id`."""
    return claim["claimed_by"] in (None, worker_id) or not lives(claim)


def is_gone(worker: RowMapping) -> bool:
    """Whether a row of `workers` is a process of this machine that has ended; False for what cannot be seen here."""
    if worker["host"] != socket.gethostname() or worker["boot_id"] != _boot_id():
        return False
    return bool(_started(worker["pid"]) != worker["pid_started"])


def _boot_id() -> str:
    # The namespace belongs to it: containers share the boot and may share the host name, but not process ids.
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {Path('/proc/self/ns/pid').readlink()}"


def _started(pid: int) -> str | None:
    """Return when a process started, as its 22nd field of proc(5) `stat`; None for one that is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else fields[19]
