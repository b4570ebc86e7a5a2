"""What a run may publish: pure rules over the paths, modes and sizes of a change; nothing here touches a file.

`publish` asks for every change of a tree that is about to be committed, `scan` for names that git would treat as a
repository. Names are compared as the most lenient file system would, because the branch is checked out on those too.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

GITLINK_MODE = "160000"
LINK_MODE = "120000"
RUNS_FOLDER = ".devflow/runs"
MAX_FILE_BYTES = 10_000_000
MAX_TOTAL_BYTES = 50_000_000

_GUARDED_FOLDERS = (".github", ".devflow")
_CODEOWNERS_FOLDERS = ("", "docs", ".github", ".gitlab")
# fmt: off
_LOCK_FILES = frozenset({
    "package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml", "bun.lock", "bun.lockb", "deno.lock",
    "poetry.lock", "uv.lock", "pdm.lock", "pipfile.lock", "pixi.lock", "conda-lock.yml", "pylock.toml", "cargo.lock",
    "go.sum", "go.work.sum", "gemfile.lock", "composer.lock", "packages.lock.json", "gradle.lockfile", "mix.lock",
    "rebar.lock", "pubspec.lock", "flake.lock", "package.resolved", "podfile.lock", "cartfile.resolved",
    "module.bazel.lock", ".terraform.lock.hcl", "chart.lock", "stack.yaml.lock", "cabal.project.freeze",
})
# fmt: on
# Code points that HFS+ leaves out when it compares names.
_IGNORED = dict.fromkeys([*range(0x200C, 0x2010), *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF])


@dataclass(frozen=True)
class Change:
    """One path that differs between two trees: status A, M, D or T; `size` is in bytes, None for a submodule or D.

    A path that is not UTF-8 carries surrogates (`os.fsencode` gives its bytes back).
    """

    path: str
    status: str
    mode: str
    size: int | None
    blob: str
    old_mode: str
    old_blob: str


@dataclass(frozen=True)
class Violation:
    """Why something must not be published; `path` and `message` are safe to store and to show."""

    path: str
    rule: str
    message: str


@dataclass(frozen=True)
class PublishPolicy:
    """What the phase may publish; sizes are in bytes, of one file and of all changed files together."""

    code_phase: bool
    allow_lock_files: bool = False
    max_file_bytes: int = MAX_FILE_BYTES
    max_total_bytes: int = MAX_TOTAL_BYTES


def shown(path: str) -> str:
    """Return the path as valid, printable Unicode."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode() for char in path
    )


def violation(path: str, rule: str, message: str) -> Violation:
    """Return a violation whose path is safe to show."""
    return Violation(shown(path), rule, message)


def lenient(name: str) -> str:
    """Return the name under which a file system that ignores case and some characters would find it."""
    name = unicodedata.normalize("NFKC", name.translate(_IGNORED)).casefold()
    return "/".join(part.split(":", 1)[0].rstrip(". ") or part for part in name.split("/"))


def is_git_folder(name: str) -> bool:
    """Tell whether a path component would be taken for a repository's `.git` by any file system."""
    return any(lenient(part) in (".git", "git~1") for part in name.split("\\"))


def check_change(change: Change, policy: PublishPolicy) -> list[Violation]:
    """Return every rule that one change breaks, by its path, mode and size alone."""
    path = change.path
    found = []
    if not policy.code_phase:
        found.append(violation(path, "not_a_code_phase", "this phase may not change the repository"))
    if GITLINK_MODE in (change.mode, change.old_mode):
        found.append(violation(path, "submodule", "submodules are left as they are"))
    guarded = _guarded(path, policy)
    if guarded is not None:
        found.append(violation(path, *guarded))
    if change.size is not None and change.size > policy.max_file_bytes:
        found.append(violation(path, "size", f"{change.size} bytes, at most {policy.max_file_bytes} are allowed"))
    return found


def check_total(changes: Sequence[Change], policy: PublishPolicy) -> list[Violation]:
    """Return a violation where all changed files together are too large."""
    total = sum(change.size or 0 for change in changes)
    if total <= policy.max_total_bytes:
        return []
    message = f"the changes are {total} bytes, at most {policy.max_total_bytes} are allowed"
    return [Violation(".", "size", message)]


def check_link(path: str, target: str) -> Violation | None:
    """Return a violation where a symbolic link could lead out of the tree it stands in.

    `..` may only stand at the front of the target: there it counts real folders. After a name, which may itself be a
    link, it would lead to a place that the path alone does not tell.
    """
    parts = target.split("/")
    climbs = next((index for index, part in enumerate(parts) if part not in ("..", ".", "")), len(parts))
    if target.startswith("/") or "\\" in target:
        return violation(path, "symlink", "a symbolic link must be relative")
    if ".." in parts[climbs:]:
        return violation(path, "symlink", "a symbolic link may have .. only at the front of its target")
    if parts[:climbs].count("..") > path.count("/"):
        return violation(path, "symlink", "the symbolic link leads out of the repository")
    if any(is_git_folder(part) for part in parts):
        return violation(path, "symlink", "the symbolic link leads into git's own folder")
    return None


def in_runs_folder(path: str) -> bool:
    """Tell whether the path, exactly as written, lies in the engine's own folder."""
    return path.startswith(RUNS_FOLDER + "/")


def _guarded(path: str, policy: PublishPolicy) -> tuple[str, str] | None:
    """Return rule and message where only people, or only the engine, may change the path."""
    plain = lenient(path)
    folder, _, name = plain.rpartition("/")
    if any(is_git_folder(part) for part in path.split("/")):
        return "nested_repository", "the name is reserved by git"
    if plain == RUNS_FOLDER or plain.startswith(RUNS_FOLDER + "/"):
        return "protected_path", "the folder of the runs belongs to the engine alone"
    if any(plain == guarded or plain.startswith(guarded + "/") for guarded in _GUARDED_FOLDERS):
        return "protected_path", f"only people change {plain.split('/', 1)[0]}"
    if name == "codeowners" and folder in _CODEOWNERS_FOLDERS:
        return "protected_path", "only people change CODEOWNERS"
    if plain == ".gitmodules":
        return "protected_path", "submodules are left as they are"
    if name in _LOCK_FILES and not policy.allow_lock_files:
        return "lock_file", "this phase may not change dependency lock files"
    return None
