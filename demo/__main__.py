"""Run the demo: a maintainer labels an issue, and everything that people see on GitHub is printed as it happens.

GitHub is played by the double that the tests use, on this machine; the server is the real `devflow serve`. Everything
lies in `.demo/` below the current folder. The recorded agent needs no key; with OPENAI_API_KEY or OPENAI_BASE_URL in
the environment that model works on the issue instead.
"""

import os
import shutil
import sys
import time
from pathlib import Path

from rich.console import Console

from demo.reading import page
from demo.sandboxing import sandbox_environment
from demo.server import CASSETTE, sample_files, sample_issue, serving
from demo.watch import Watcher
from tests.github_double import GitHubDouble
from tests.github_double.issue import Issue
from tests.github_double.people import User
from tests.github_double.pull import Pull
from tests.github_double.repository import Repository


def main() -> int:
    """Run the demo and return its exit code."""
    folder = Path.cwd() / ".demo"
    folder.mkdir(exist_ok=True)
    shutil.rmtree(folder / "github", ignore_errors=True)
    console = Console(width=None if sys.stdout.isatty() else 110)
    with GitHubDouble(folder / "github", ids_after=int(time.time())) as github:
        repository = github.repository("octo/billsplit", files=sample_files())
        ada, bob = github.person("ada"), github.person("bob")
        repository.permit(ada, "write")
        repository.permit(bob, "maintain")
        watcher = Watcher(console, repository)
        watcher.tell("GitHub is played by a double on this machine: octo/billsplit, with ada and bob")
        variables = _variables(watcher)
        watcher.tell("$ devflow serve")
        with serving(github, folder, variables):
            return _story(console, watcher, repository, ada, bob)


def _story(console: Console, watcher: Watcher, repository: Repository, ada: User, bob: User) -> int:
    issue = repository.open_issue(ada, *sample_issue())
    page(console, f"ada opened issue #{issue.number}: {issue.title}", issue.body or "")
    watcher.tell(f"ada puts the label `devflow` on issue #{issue.number}")
    issue.label(ada, "devflow")
    for number, answer in enumerate((_review, _comment, _comment), 1):
        watcher.until(lambda number=number: _questions(repository) >= number or _ended(issue))  # type: ignore[misc]
        if not _ended(issue):
            answer(watcher, repository.pulls[0], bob if answer is _review else ada)
    watcher.until(lambda: _ended(issue))
    if not repository.pulls or repository.pulls[0].draft:
        console.print("The run did not complete; its server's log is in .demo/server.log")
        return 1
    pull = repository.pulls[0]
    console.rule("What is on the pull request", align="left", style="dim")
    for line in repository.git.log(pull.base_ref, pull.head_ref):
        console.print(f"  {line}", markup=False, highlight=False)
    console.print(f"\nLook closer: {_devflow()} runs, with DEVFLOW_DATA_DIR=.demo/data", markup=False)
    return 0


def _review(watcher: Watcher, pull: Pull, by: User) -> None:
    watcher.tell(f"{by.login} approves with a review of {pull.head_sha[:7]}")
    pull.review(by, "approve", "That is what we want.")


def _comment(watcher: Watcher, pull: Pull, by: User) -> None:
    watcher.tell(f"{by.login} writes a comment: /approve")
    pull.comment(by, "/approve")


def _questions(repository: Repository) -> int:
    """Return how many times the App has asked for a decision."""
    return sum("/gate/" in comment.body for pull in repository.pulls for comment in pull.comments)


def _ended(issue: Issue) -> bool:
    said = [one.body for place in (issue, *issue.repository.pulls) for one in place.comments]
    return any("/end -->" in body or "/stop/" in body for body in said)


def _variables(watcher: Watcher) -> dict[str, str]:
    """Return what the server is told besides where its GitHub is."""
    if os.environ.get("OPENAI_API_KEY") or os.environ.get("OPENAI_BASE_URL"):
        watcher.tell(f"the model at {os.environ.get('OPENAI_BASE_URL') or 'OpenAI'} works on the issue")
        return {}
    watcher.tell("no model is configured, so a RECORDED agent works on the issue")
    return {"DEVFLOW_CASSETTE": str(CASSETTE)} | sandbox_environment()


def _devflow() -> str:
    installed = Path(sys.executable).with_name("devflow")
    if not installed.exists():
        return f"{sys.executable} -m app.cli"
    return str(installed.relative_to(Path.cwd()) if installed.is_relative_to(Path.cwd()) else installed)


if __name__ == "__main__":
    sys.exit(main())
