"""The one place where the engine writes files outside a worktree: whole, or not at all."""

import errno
import os
from pathlib import Path

from engine import failpoints
from engine.domain.errors import DevflowError
from engine.domain.ids import uuid7


def write_file(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write `content` to `path` through a temporary file and a rename; raises `storage_full` on a full disk."""
    temporary = path.with_name(f".{path.name}.{uuid7().hex}")
    with failpoints.around(failpoints.Effect.FILE_WRITE):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DevflowError("storage_full", f"no space left to write {path.name}") from error
            raise
