"""What started a run, as its trigger key says it: a label at a time, or a comment that asked for another try.

The labels' handler makes the keys of labels, the engine those of retries from the comments' tokens. They tell which run
a late event can have meant: none that came to be after it.
"""

import re
from datetime import datetime

_AT = re.compile(r"\d{4}-\d\d-\d\dT[0-9:.]+\+00:00")
_LABEL = re.compile(rf"label:\d+:(.+):({_AT.pattern})", re.DOTALL)
_RETRY = re.compile(r"retry:comment:(\d+):(\d+)")


def label_key(issue_id: int, label: str, at: datetime) -> str:
    """Return the key of a label that was put on an issue; `at` is GitHub's time of that, in UTC."""
    return f"{_prefix(issue_id, label)}{at.isoformat()}"


def is_of_label(key: str | None, issue_id: int, label: str) -> bool:
    """Tell whether a run with this key was started by just this label; `devflow` is not `devflow:small`."""
    prefix = _prefix(issue_id, label)
    key = key or ""
    return key.startswith(prefix) and _AT.fullmatch(key, len(prefix)) is not None


def read_label_key(key: str) -> tuple[str, datetime] | None:
    """Return the label and the time in a key of a label, None for any other key."""
    found = _LABEL.fullmatch(key)
    return None if found is None else (found[1], datetime.fromisoformat(found[2]))


def read_retry_key(key: str) -> tuple[int, int] | None:
    """Return the comment's id and the command's number in a key of a retry, None for any other key."""
    found = _RETRY.fullmatch(key)
    return None if found is None else (int(found[1]), int(found[2]))


def came_after(key: str | None, comment_id: int, written_at: datetime) -> bool:
    """Tell whether a run was asked for after a comment of its issue was written, so that the comment means another.

    Both times are GitHub's and in whole seconds; within one, the run counts as there. Ids of comments grow.
    """
    key = key or ""
    if (retry := _RETRY.fullmatch(key)) is not None:
        return int(retry[1]) >= comment_id
    at = _AT.search(key)
    return key.startswith("label:") and at is not None and datetime.fromisoformat(at[0]) > written_at


def _prefix(issue_id: int, label: str) -> str:
    return f"label:{issue_id}:{label.casefold()}:"
