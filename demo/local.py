"""Run the demo: make the sample repository, let `devflow run` work an issue on it, and show what came of it.

Everything lies in `.demo/` below the current folder. The recorded agent needs no key; with OPENAI_API_KEY or
OPENAI_BASE_URL in the environment the same run asks that model instead.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from app.local import console
from demo.sandboxing import sandbox_environment

_HERE = Path(__file__).parent
_GIT = ("git", "-c", "user.name=Demo", "-c", "user.email=demo@example.invalid", "-c", "commit.gpgsign=false")


def main() -> int:
    """Run the demo and return its exit code."""
    folder = Path.cwd() / ".demo"
    repository = folder / "billsplit"
    shutil.rmtree(repository, ignore_errors=True)
    folder.mkdir(exist_ok=True)
    shutil.copytree(_HERE / "sample", repository, ignore=shutil.ignore_patterns("__pycache__"))
    _git(repository, "init", "--quiet", "--initial-branch=main")
    _git(repository, "add", ".")
    _git(repository, "commit", "--quiet", "--message=A bill splitter that loses cents")
    console.tell(f"Sample repository: {repository.relative_to(Path.cwd())}")
    console.tell("Its test before the run:")
    _show_test(repository)
    recorded = not (os.environ.get("OPENAI_API_KEY") or os.environ.get("OPENAI_BASE_URL"))
    command = [sys.executable, "-m", "app.cli", "run", "--repo", str(repository), "--issue", str(_HERE / "issue.md")]
    command += ["--approve", "always", "--as", "demo@example.invalid"]
    environment = os.environ | {"DEVFLOW_DATA_DIR": str(folder / "data")}
    if recorded:
        console.tell("\nNo model is configured, so a RECORDED agent works on the issue:")
        command += ["--cassette", str(_HERE / "cassette.yaml")]
        environment |= sandbox_environment()
    else:
        console.tell(f"\nThe model at {os.environ.get('OPENAI_BASE_URL') or 'OpenAI'} works on the issue:")
    console.tell("$ devflow run --repo .demo/billsplit --issue issue.md --approve always ...\n")
    code = subprocess.run(command, env=environment, check=False).returncode
    if code != 0:
        return code
    branch = _git(repository, "for-each-ref", "--format=%(refname:short)", "refs/heads/devflow/").strip()
    console.tell("\nCommits on the branch, oldest first:")
    console.tell(_git(repository, "log", "--reverse", "--format=  %h %s", f"main..{branch}").rstrip())
    console.tell("\nThe change:")
    console.tell(_git(repository, "diff", f"main...{branch}", "--", "billsplit", "tests").rstrip())
    console.tell("\nIts test on the branch:")
    tree = folder / "result"
    shutil.rmtree(tree, ignore_errors=True)
    _git(repository, "worktree", "prune")
    _git(repository, "worktree", "add", "--quiet", "--detach", str(tree), branch)
    if not _show_test(tree):
        return 1
    console.tell("\nLook closer (the report and the artifacts are on the branch, in .devflow/runs/):")
    console.tell(f"  DEVFLOW_DATA_DIR=.demo/data {_devflow()} show {branch[-8:]}")
    console.tell(f"  git -C .demo/billsplit diff main {branch}")
    return 0


def _devflow() -> str:
    installed = Path(sys.executable).with_name("devflow")
    if not installed.exists():
        return f"{sys.executable} -m app.cli"
    return str(installed.relative_to(Path.cwd()) if installed.is_relative_to(Path.cwd()) else installed)


def _show_test(repository: Path) -> bool:
    result = subprocess.run(
        [sys.executable, "-m", "unittest"],
        cwd=repository,
        env={"PATH": os.environ.get("PATH", os.defpath), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in result.stderr.splitlines() if line.startswith(("FAIL", "AssertionError", "Ran", "OK"))]
    for line in lines:
        console.tell(f"  {line}")
    return result.returncode == 0


def _git(repository: Path, *arguments: str) -> str:
    command = [*_GIT, "-C", str(repository), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
