"""Rules over paths and links, as the most lenient file system would read them."""

import pytest

from engine.workspace.rules import Change, PublishPolicy, check_change, check_link, is_git_folder, shown

POLICY = PublishPolicy(code_phase=True)


def added(path: str, mode: str = "100644", size: int | None = 1) -> Change:
    return Change(path, "A", mode, size, "1" * 40, "000000", "0" * 40)


@pytest.mark.parametrize(
    "name", [".git", ".GIT", ".giT", ".git.", ".git ", ".git::$INDEX_ALLOCATION", "git~1", "a\\.git"]
)
def test_names_that_some_file_system_takes_for_git(name: str) -> None:
    assert is_git_folder(name)


@pytest.mark.parametrize("name", [".gitignore", "git", ".github", "x.git", ".git-blame-ignore-revs", "git~2"])
def test_names_that_only_look_like_it(name: str) -> None:
    assert not is_git_folder(name)


@pytest.mark.parametrize(
    "path",
    [
        ".github/x",
        ".GITHUB/x",
        ".github./x",
        ".g\u200dithub/x",
        ".\uff27ithub/x",
        ".github",
        ".devflow",
        ".github/CODEOWNERS",
        "CodeOwners",
        "docs/CODEOWNERS",
        ".GitModules",
        "Cargo.LOCK",
        "a/b/go.sum",
        "x/.git/config",
    ],
)
def test_guarded_paths(path: str) -> None:
    assert len(check_change(added(path), POLICY)) == 1


@pytest.mark.parametrize(
    "path", ["github/x", "src/.github/x", "src/CODEOWNERS", "lock.json", ".gitattributes", "a.lock"]
)
def test_paths_that_anybody_may_change(path: str) -> None:
    assert check_change(added(path), POLICY) == []


def test_submodules_and_sizes() -> None:
    assert [one.rule for one in check_change(added("x", "160000", None), POLICY)] == ["submodule"]
    assert [one.rule for one in check_change(added("x", size=10_000_001), POLICY)] == ["size"]
    assert [one.rule for one in check_change(added("x"), PublishPolicy(code_phase=False))] == ["not_a_code_phase"]


@pytest.mark.parametrize(
    ("path", "target", "allowed"),
    [
        ("a", "b", True),
        ("a/b/c", "../../d", True),
        ("a/b/c", "./../x", True),
        ("a", "b/", True),
        ("a", "/b", False),
        ("a", "..", False),
        ("a/b", "../../x", False),
        ("a/b/c", "d/../e", False),
        ("a", "b/.git/config", False),
        ("a", ".GIT", False),
    ],
)
def test_links(path: str, target: str, allowed: bool) -> None:
    assert (check_link(path, target) is None) is allowed


def test_paths_are_shown_as_printable_text() -> None:
    assert shown("a\n\x1b[0m\udcff\u202eb") == "a\\n\\x1b[0m\\udcff\\u202eb"
    assert shown("größe 日本.txt") == "größe 日本.txt"
