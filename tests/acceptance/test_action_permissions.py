"""Steps whose token may do less than it should: each right that is missing is told by the line that gives it."""

from dataclasses import replace
from pathlib import Path

from tests.conformance import format as written
from tests.conformance.backends.action import Action, action

ALL = {"contents": "write", "issues": "write", "pull-requests": "write", "checks": "write", "statuses": "write"}


def take_away(on: Action, *names: str) -> None:
    """Have the jobs to come get a token without these permissions."""
    given = {name: level for name, level in ALL.items() if name not in names}
    token = on.world.github.actions_token(on.world.repository, given)
    on.steps.host = replace(on.steps.host, token=token.text)


async def test_each_permission_that_is_missing_is_told_by_its_name(tmp_path: Path, database_url: str) -> None:
    async with action(written.read("main_road"), tmp_path, database_url) as on:
        ada = on.world.people["ada"]
        take_away(on, "pull-requests", "checks", "statuses")
        on.world.the_issue.label(ada, "devflow")
        begun = await on.run(on.told())
        on.world.repository.commit("$(touch${IFS}pwned)", {"a.txt": "1"}, ada)
        on.world.repository.open_pull(ada, "Another", "$(touch${IFS}pwned)").comment(ada, "/status")
        asked = await on.run(on.told())

        assert (begun.code, begun.outputs["error-code"]) == (1, "permission_missing")
        assert begun.outputs["state"] == "awaiting_approval", "what could be done was done"
        told = [(one.kind, one.title, one.message) for one in begun.annotations]
        for permission in ("pull-requests: write", "checks: write"):
            (line,) = [one for one in told if f"lacks the permission `{permission}`" in one[2]]
            assert line[:2] == ("error", "Devflow: permission_missing")
            assert f"Next: add `{permission}` to `permissions:` of the workflow" in line[2]
            assert permission in begun.summary
        assert len(told) == 2
        assert (asked.code, asked.outputs["error-code"]) == (1, "permission_missing")
        assert ["lacks the permission `pull-requests: read`" in one.message for one in asked.annotations] == [True]
