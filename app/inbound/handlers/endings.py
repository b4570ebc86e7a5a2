"""Ending runs because of what happened around them: no command, but a fact that leaves them without a purpose.

Who caused it does not need a permission of ours: GitHub has let them do it. The same fact twice ends nothing twice.
"""

from collections.abc import Sequence

from sqlalchemy import RowMapping

from app.github.shapes import Person
from app.inbound.context import Context
from app.inbound.responses import Handled, ignored
from engine.domain.errors import DevflowError
from engine.domain.states import RunState


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
