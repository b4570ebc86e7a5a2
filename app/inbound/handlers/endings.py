"""Ending runs because of what happened around them: no command, but a fact that leaves them without a purpose.

Who caused it does not need a permission of ours: GitHub has let them do it. The same fact twice ends nothing twice.
"""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import RowMapping

from app.github.faults import Gone
from app.github.shapes import Person
from app.inbound.context import Context
from app.inbound.responses import Handled, ignored
from engine.domain.errors import DevflowError
from engine.domain.states import RunState

_OURSELVES = Person(0, "devflow")


async def end_runs(context: Context, rows: Sequence[RowMapping], by: Person, why: str) -> Handled:
    """Abort those of the runs that have not ended; their surfaces say by whom and why."""
    ended = []
    for row in rows:
        if RunState(row["state"]).terminal:
            continue
        token = f"fact:{row['run_id']}"
        try:
            await context.engine.abort(row["run_id"], by.login, why, token=token, by_id=by.id)
        except DevflowError as error:
            if error.code != "run_already_terminal":
                raise
        else:
            ended.append(str(row["number"]))
    return Handled(f"ended run {', '.join(ended)}: {why}") if ended else ignored("no run to end")


async def end_if_unwanted(context: Context, run_id: UUID, issue_number: int, label: str | None = None) -> None:
    """End a run that was made just now where its issue is closed by now, or `label`, if given, is off.

    Whoever closes an issue does so before its webhook is handled: either that finds the run, or this sees it closed.
    """
    try:
        issue = await context.github.issue(issue_number)
    except Gone:
        why = "the issue is gone"
    else:
        if issue.state != "open":
            why = "the issue was closed while the run was being started"
        elif label is not None and label.casefold() not in {name.casefold() for name in issue.labels}:
            why = f"the label {label} was taken off while the run was being started"
        else:
            return
    await end_runs(context, [await context.engine.row(run_id)], _OURSELVES, why)
