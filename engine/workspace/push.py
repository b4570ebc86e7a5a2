"""The only way from the mirror to the repository: the run's own branch, and only where it is still where it was.

Also puts the branch back after a take-over: commits of this run that were made but never recorded are dropped, in
the mirror and in the repository; commits of anybody else never are.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from engine import failpoints
from engine.domain.errors import DevflowError, Fenced
from engine.workspace.git import IDENTITY_EMAIL, Git, GitFailed, GitResult, is_forbidden, is_missing
from engine.workspace.mirror import Mirror

RUN_TRAILER = "Devflow-Run"
PHASE_TRAILER = "Devflow-Phase"
EPOCH_TRAILER = "Devflow-Epoch"

# What servers and git say when the branch has moved between their answer and the push.
_CONFLICT = re.compile(
    r"stale info|incorrect old value|cannot lock ref .*(but expected|reference already exists)|fetch first"
)
# A repository that belongs to somebody else must not have its hooks run with this process's rights.
_RECEIVE_WITHOUT_HOOKS = "git -c core.hooksPath=/dev/null -c core.alternateRefsCommand=true receive-pack"


async def push(mirror: Mirror, branch: str, new: str, *, expected: str | None) -> None:
    """Move the run's branch in the repository from `expected` (None: it does not exist) to the commit `new`.

    Where it is at `new` already, nothing happens. Raises `push_conflict` where somebody else moved it, `push_rejected`
    with the repository's words where a hook or rule refuses, `repository_not_found` where there is none any more,
    `github_unavailable` where it cannot be reached now, `storage_full`.
    """
    await _push(mirror, branch, new, expected)


async def delete_branch(mirror: Mirror, branch: str, *, expected: str) -> None:
    """Delete the run's branch in the repository and in the mirror, if it is at `expected`; errors as in `push`."""
    if await mirror.head_of_remote(branch) is not None:
        await _push(mirror, branch, "", expected)
    await forget_branch(mirror, branch)


async def forget_branch(mirror: Mirror, branch: str) -> None:
    """Delete the run's branch in the mirror alone; the repository keeps its own."""
    await mirror.git.run("update-ref", "--no-deref", "-d", f"refs/heads/{branch}")


async def drop_unrecorded(
    mirror: Mirror, branch: str, *, recorded: str, pushed: str | None, run_id: UUID, epoch: int
) -> list[str]:
    """Put the branch back where only unrecorded commits of this run are on top; returns those dropped, newest first.

    `recorded` is the run's head and `pushed` where its branch in the repository is, both as the database has them
    (`pushed` None: there is no branch yet). Raises `push_conflict` where anybody else's commit is there, `Fenced` where
    a later epoch's is, `repository_not_found` where there is no repository.
    """
    ref = f"refs/heads/{branch}"
    there = await mirror.head_of_remote(branch)
    if there is not None:
        await mirror.fetch(branch, there)
    here = await mirror.git.ref(ref)
    view = _View(mirror.git, branch, recorded, pushed, str(run_id), epoch)
    dropped_here = await view.surplus(here)
    dropped_there = await view.surplus(there)
    if dropped_there:
        await _push(mirror, branch, pushed or "", there)
    if here not in (None, recorded):
        await _set_ref(mirror.git, ref, recorded, here)
    return list(dict.fromkeys(dropped_here + dropped_there))


@dataclass(frozen=True)
class _View:
    """The branch as the database knows it, against which a head found somewhere is judged."""

    git: Git
    branch: str
    recorded: str
    pushed: str | None
    run_id: str
    epoch: int

    async def surplus(self, head: str | None) -> list[str]:
        """Return the commits of `head` that were never recorded, newest first."""
        if head is None or await self.git.is_ancestor(head, self.recorded):
            return []
        if not await self.git.is_ancestor(self.recorded, head):
            raise conflict(f"the branch {self.branch} was rewritten: it is at {head}", self.pushed)
        fields = ("%H", "%ce", f"%(trailers:key={RUN_TRAILER},valueonly)", f"%(trailers:key={EPOCH_TRAILER},valueonly)")
        log = await self.git.run("log", "-z", f"--format={'%x01'.join(fields)}", f"{self.recorded}..{head}", "--")
        commits = []
        for row in filter(None, log.stdout.decode(errors="replace").split("\0")):
            sha, committer, run, epoch = (part.strip() for part in row.split("\x01"))
            # somebody who amends a commit of ours keeps its trailers, but is its committer
            if committer != IDENTITY_EMAIL or run != self.run_id or not epoch.isdecimal():
                raise conflict(f"somebody put the commit {sha} on the branch {self.branch}", self.pushed)
            if int(epoch) > self.epoch:
                raise Fenced(f"the branch {self.branch} has a commit of epoch {epoch}, this worker has {self.epoch}")
            commits.append(sha)
        return commits


def conflict(what: str, last: str | None) -> DevflowError:
    """Return `push_conflict` with what has happened, and the run's `last` commit: there the branch has to go back."""
    if last is None:
        return DevflowError("push_conflict", f"{what}; the run has put nothing on it yet, so it has to be deleted")
    return DevflowError("push_conflict", f"{what}; the run's last commit on it is {last}")


async def _set_ref(git: Git, ref: str, new: str, before: str | None) -> None:
    try:
        await git.run("update-ref", "--no-deref", ref, new, before or "0" * 40)
    except GitFailed as error:
        raise Fenced(f"{ref} was moved by another worker") from error


async def _push(mirror: Mirror, branch: str, new: str, expected: str | None) -> None:
    if mirror.remote.before_push is not None:
        await mirror.remote.before_push()
    await push_ref(mirror, f"refs/heads/{branch}", new, expected=expected)


async def push_ref(mirror: Mirror, ref: str, new: str, *, expected: str | None) -> None:
    """Move any ref in the repository from `expected` (None: it does not exist) to `new`; errors as in `push`."""
    remote = mirror.remote
    options = ["--porcelain", "--no-verify", "--no-follow-tags", "--no-signed", "--recurse-submodules=no"]
    options.append(f"--force-with-lease={ref}:{expected or ''}")
    if _is_foreign(remote.url):
        options.append(f"--receive-pack={_RECEIVE_WITHOUT_HOOKS}")
    arguments = (*options, "--", remote.url, f"{new}:{ref}")
    with failpoints.around(failpoints.Effect.GIT_PUSH):
        result = await mirror.git.run("push", *arguments, env=remote.environment, check=False)
        if result.code != 0:
            raise _refusal(mirror, ref.removeprefix("refs/heads/"), expected, result)


def _refusal(mirror: Mirror, branch: str, expected: str | None, result: GitResult) -> DevflowError:
    rows = [line.split("\t") for line in os.fsdecode(result.stdout).splitlines() if line.startswith("!\t")]
    if not rows:
        fatal = [line for line in result.stderr.splitlines() if line.startswith(("fatal:", "error:"))]
        said = (fatal or result.stderr.splitlines() or ["git gave no reason"])[0][:300]
        if mirror.may_pass(result.stderr):
            return DevflowError("github_unavailable", f"the repository does not answer: {said}")
        if is_forbidden(result.stderr):
            message = "the repository refuses the push: the credential lacks the permission `contents: write`"
            hint = "add `contents: write` to `permissions:` of the workflow, or give the token or App that right"
            return DevflowError("permission_missing", message, recovery_hint=hint)
        hint = "see that the repository is there and may be written to, then `devflow resume RUN`"
        if is_missing(result.stderr):
            return DevflowError("repository_not_found", f"the repository is not there: {said}", recovery_hint=hint)
        return DevflowError("push_rejected", f"the repository does not take the push: {said}", recovery_hint=hint)
    reason = rows[0][-1]
    told = [line.removeprefix("remote:").strip() for line in result.stderr.splitlines() if line.startswith("remote:")]
    if _CONFLICT.search(" ".join([reason, result.stderr])):
        return conflict(f"somebody else moved the branch {branch}: {reason}", expected)
    words = "; ".join(line for line in told if line)[:1000]
    return DevflowError("push_rejected", f"{reason}{': ' if words else ''}{words}")


def _is_foreign(url: str) -> bool:
    try:
        return Path(url).is_absolute() and Path(url).stat().st_uid != os.geteuid()
    except OSError:
        return False
