"""The run's branch: readable, bounded, and harmless whatever somebody calls an issue."""

import re
from uuid import UUID

import pytest

from engine.workspace.publish import branch_name

RUN = UUID("01890000-0000-7000-8000-0000deadbeef")


def test_a_branch_names_issue_title_and_run() -> None:
    assert branch_name(12, "Fix the parser", RUN) == "devflow/12-fix-the-parser-deadbeef"


@pytest.mark.parametrize(
    "title",
    [
        "",
        "   ",
        "日本語",
        "../../etc",
        "-rf --force",
        "a..b@{1}~^:?*[\\",
        "x.lock",
        "\x00\n\x7f",
        "$(touch x)",
        "ÄÖÜ" * 99,
    ],
)
def test_hostile_titles_give_plain_names(title: str) -> None:
    assert re.fullmatch(r"devflow/7-[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?-deadbeef", branch_name(7, title, RUN))


def test_a_long_title_is_cut_without_a_dangling_dash() -> None:
    slug = branch_name(1, "a" * 39 + " b", RUN).removeprefix("devflow/1-").removesuffix("-deadbeef")
    assert slug == "a" * 39
