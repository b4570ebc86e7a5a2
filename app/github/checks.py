"""Check runs and, where an App may not make them, commit statuses."""

from functools import partial
from typing import Any

from app.github.answers import check_of
from app.github.reading import Fields
from app.github.repository import RepositoryCalls
from app.github.shapes import Check, CheckStatus, Conclusion, StatusState

NAME = "devflow"
_DESCRIPTION_LIMIT = 140


class Checks(RepositoryCalls):
    """The checks on commits of a repository; faults as in `RepositoryCalls`."""

    async def create_check(
        self,
        head_sha: str,
        *,
        external_id: str,
        status: CheckStatus,
        conclusion: Conclusion | None,
        title: str,
        summary: str,
        details_url: str | None = None,
    ) -> int:
        """Make a check run `devflow` on a commit and return its id; `conclusion` goes with status `completed` only.

        `Refused` with 403 where the installation grants no check runs.
        """
        values = {
            "name": NAME,
            "head_sha": head_sha,
            "external_id": external_id,
            **_values(status, conclusion, title, summary, details_url),
        }
        return self._read(_id, await self._write("POST", "check-runs", values))

    async def update_check(
        self,
        check_id: int,
        *,
        status: CheckStatus,
        conclusion: Conclusion | None,
        title: str,
        summary: str,
        details_url: str | None = None,
    ) -> None:
        """Change a check run of ours, all of what it shows."""
        await self._write("PATCH", f"check-runs/{check_id}", _values(status, conclusion, title, summary, details_url))

    async def checks_of(self, sha: str) -> list[Check]:
        """Return the check runs on a commit, every App's and older ones of the same name too."""
        items = await self._all(f"commits/{sha}/check-runs", {"filter": "all"}, inside="check_runs")
        return self._read_all(partial(check_of, app_id=self._host.app_id), items)

    async def set_status(self, sha: str, state: StatusState, description: str, target_url: str | None = None) -> None:
        """Set the commit status `devflow`; the description is cut at 140 characters."""
        values = {"state": state, "description": description[:_DESCRIPTION_LIMIT], "context": NAME}
        await self._write("POST", f"statuses/{sha}", values | ({"target_url": target_url} if target_url else {}))


def _values(
    status: CheckStatus, conclusion: Conclusion | None, title: str, summary: str, details_url: str | None
) -> dict[str, Any]:
    values: dict[str, Any] = {"status": status, "output": {"title": title, "summary": summary}}
    if conclusion is not None:
        values["conclusion"] = conclusion
    if details_url is not None:
        values["details_url"] = details_url
    return values


def _id(fields: Fields) -> int:
    return fields.number("id")
