"""The action's own steps, run as a runner runs them: Python, requirements, cache, sandbox, what the program gets."""

import json
import os
import shutil
import stat
from pathlib import Path

import pytest

from tests.action_runner.runner import ROOT, ActionRunner, StepRun

PROGRAM = """
import json, os, signal, sys, time
from pathlib import Path

def main():
    seen = {"env": dict(os.environ), "argv": sys.argv[1:], "prefix": sys.prefix, "cwd": os.getcwd(), "path": sys.path}
    Path(os.environ["RUNNER_TEMP"], "seen.json").write_text(json.dumps(seen))
    print("out"); print("err", file=sys.stderr)
    if "WAIT" in os.environ:
        signal.signal(signal.SIGINT, lambda *_: sys.exit(7))
        print("waiting", flush=True)
        time.sleep(60)
    Path(os.environ["GITHUB_OUTPUT"]).write_text("run-id=42\\nstate=completed\\n")
    sys.exit(int(os.environ.get("CODE", "0")))

main()
"""


@pytest.fixture
def action(tmp_path: Path) -> Path:
    """The action as a checkout of it, with a program that only writes down what it is given."""
    folder = tmp_path / "action's own folder"
    shutil.copytree(ROOT / "action", folder / "action")
    shutil.copy(ROOT / "action.yml", folder)
    (folder / "requirements").mkdir()
    shutil.copy(ROOT / "requirements" / "runtime.txt", folder / "requirements")
    (folder / "app").mkdir()
    (folder / "app" / "__init__.py").touch()
    (folder / "app" / "cli.py").write_text(PROGRAM)
    return folder


def seen(run: StepRun) -> dict[str, object]:
    """Return what the program was given."""
    return dict(json.loads((run.folder / "temp" / "seen.json").read_text()))


def programs(folder: Path, **scripts: str) -> dict[str, str]:
    """Return a job's environment in which these programs come first on the path."""
    folder.mkdir(exist_ok=True)
    for name, text in scripts.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)
    python = os.path.dirname(os.path.realpath("/proc/self/exe"))
    return {"PATH": f"{folder}:{python}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}


async def test_with_the_cache_the_program_runs_and_its_outputs_are_the_actions(action: Path, tmp_path: Path) -> None:
    run = await ActionRunner(tmp_path / "jobs", action=action).run("issues", {"action": "labeled"})

    assert (run.exit_code, run.outputs["run-id"], run.outputs["state"]) == (0, "42", "completed")
    assert run.outputs["report"] == ""
    assert run.ran == ["python", "cache", "install", "step-4", "run"]
    assert seen(run)["argv"] == ["action"]
    assert run.log.endswith("out\nerr")


async def test_the_program_gets_the_inputs_and_nothing_of_the_runners_services(action: Path, tmp_path: Path) -> None:
    inputs = {"openai-api-key": "sk-1", "budget-usd": "2.50", "workflow": "$(id) `id` ${{ x }} '\"\n::error::x"}

    run = await ActionRunner(tmp_path / "jobs", action=action).run("issues", {}, inputs=inputs)

    given = seen(run)["env"]
    assert isinstance(given, dict)
    assert given["DEVFLOW_INPUT_GITHUB_TOKEN"] == "ghs_token-of-the-job"
    assert given["DEVFLOW_INPUT_OPENAI_API_KEY"] == "sk-1"
    assert given["DEVFLOW_INPUT_BUDGET_USD"] == "2.50"
    assert given["DEVFLOW_INPUT_WORKFLOW"] == inputs["workflow"]
    assert given["DEVFLOW_INPUT_CONFIG"] == ".github/devflow.yml"
    assert given["DEVFLOW_INPUT_MODEL"] == ""
    assert [name for name in given if name.startswith("ACTIONS_")] == []
    assert run.annotations == []


async def test_the_checkout_shadows_no_module_of_the_program(action: Path, tmp_path: Path) -> None:
    files = {
        "app/cli.py": "raise SystemExit('the checkout was imported')",
        "json.py": "raise SystemExit('so was this')",
    }

    run = await ActionRunner(tmp_path / "jobs", action=action).run("issues", {}, files=files)

    assert run.exit_code == 0
    assert seen(run)["cwd"] == str(run.folder / "work")


async def test_the_programs_exit_code_is_the_steps(action: Path, tmp_path: Path) -> None:
    run = await ActionRunner(tmp_path / "jobs", action=action).run("issues", {}, env={"CODE": "1"})

    assert run.exit_code == 1
    assert run.outputs["run-id"] == "42"


async def test_a_cancelled_jobs_signal_reaches_the_program_itself(action: Path, tmp_path: Path) -> None:
    running = ActionRunner(tmp_path / "jobs", action=action).start("issues", {}, env={"WAIT": "1"})
    await running.until("waiting")

    run = await running.cancel()

    assert run.exit_code == 7


async def test_a_machine_that_vanishes_takes_the_program_with_it(action: Path, tmp_path: Path) -> None:
    running = ActionRunner(tmp_path / "jobs", action=action).start("issues", {}, env={"WAIT": "1"})
    await running.until("waiting")

    run = await running.vanish()

    assert run.exit_code == 128 + 9
    assert run.outputs["run-id"] == ""


async def test_no_python_that_is_new_enough_is_said_clearly(action: Path, tmp_path: Path) -> None:
    old = programs(tmp_path / "old", python3="exit 1")
    only = {"PATH": f"{tmp_path / 'old'}:/usr/bin:/bin"}
    for name in ("python3.11", "python3.12", "python3.13", "python3.14"):
        shutil.copy(tmp_path / "old" / "python3", tmp_path / "old" / name)

    run = await ActionRunner(tmp_path / "jobs", action=action).run("issues", {}, env=old | only)

    assert run.exit_code == 1
    assert [note.title for note in run.annotations] == ["Devflow: python"]
    assert "3.11" in run.annotations[0].message
    assert run.ran == ["python"]


async def test_the_python_that_was_asked_for_is_the_only_one_that_is_tried(action: Path, tmp_path: Path) -> None:
    run = await ActionRunner(tmp_path / "jobs", action=action).run("issues", {}, inputs={"python": "/no/such; id"})

    assert run.exit_code == 1
    assert "input python" in run.annotations[0].message


async def test_other_requirements_have_another_key(action: Path, tmp_path: Path) -> None:
    first = await ActionRunner(tmp_path / "one", action=action).run("issues", {}, env={"HOME": str(tmp_path / "home")})
    (action / "requirements" / "runtime.txt").write_text("# none\n")
    second = await ActionRunner(tmp_path / "two", action=action).run("issues", {}, env={"HOME": str(tmp_path / "home")})

    prefixes = {seen(run)["prefix"] for run in (first, second)}
    assert len(prefixes) == 2
    assert all(str(prefix).startswith(str(tmp_path / "home" / ".cache" / "devflow" / "venv-")) for prefix in prefixes)


async def test_what_is_there_already_is_neither_restored_nor_installed(action: Path, tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path / "home")}
    runner = ActionRunner(tmp_path / "jobs", action=action)
    await runner.run("issues", {}, env=home)

    run = await runner.run("issues", {}, env=home)

    assert run.ran == ["python", "step-4", "run"]


async def test_without_the_cache_the_pinned_requirements_are_installed_and_saved(action: Path, tmp_path: Path) -> None:
    (action / "requirements" / "runtime.txt").write_text("")
    runner = ActionRunner(tmp_path / "jobs", action=action, venv="miss")

    run = await runner.run("issues", {})

    # nothing was asked for, so the check for the main packages is not met, but all was carried out
    assert run.exit_code == 0
    assert run.ran == ["python", "cache", "install", "step-3", "step-4", "run"]
    assert len(run.saved) == 1
    assert run.groups == ["Installing Devflow's pinned requirements (kept in the cache for the next time)"]


async def test_a_requirement_without_its_hash_is_not_installed(action: Path, tmp_path: Path) -> None:
    (action / "requirements" / "runtime.txt").write_text("typer==0.29.2\n")

    run = await ActionRunner(tmp_path / "jobs", action=action, venv="miss").run("issues", {})

    assert run.exit_code != 0
    assert run.saved == []
    assert "run" not in run.ran


@pytest.mark.installs
async def test_the_whole_installation_from_an_empty_folder(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "action", tmp_path / "action" / "action")
    shutil.copy(ROOT / "action.yml", tmp_path / "action")
    shutil.copytree(ROOT / "requirements", tmp_path / "action" / "requirements")
    (tmp_path / "action" / "app").mkdir()
    (tmp_path / "action" / "app" / "cli.py").write_text(f"import sys; sys.path.append({str(ROOT)!r})\n{PROGRAM}")

    run = await ActionRunner(tmp_path / "jobs", action=tmp_path / "action", venv="miss").run("issues", {})

    assert run.exit_code == 0, run.log
    assert len(run.saved) == 1


LOGGED = 'echo "$(basename "$0") $*" >> "$LOG"'


def on_a_runner(tmp_path: Path, bwrap: str, **more: str) -> dict[str, str]:
    """Return a job's environment in which `sudo` and `bwrap` are ours, and sudo writes down what it is asked."""
    return programs(tmp_path / "bin", bwrap=bwrap, sudo=LOGGED, **more) | {"LOG": str(tmp_path / "log")}


def asked_of_sudo(tmp_path: Path) -> list[str]:
    """Return what sudo was asked for."""
    return (tmp_path / "log").read_text().splitlines() if (tmp_path / "log").exists() else []


async def test_githubs_own_runner_is_made_ready_for_bubblewrap(action: Path, tmp_path: Path) -> None:
    env = on_a_runner(tmp_path, 'grep -q apparmor "$LOG" 2>/dev/null')

    run = await ActionRunner(tmp_path / "jobs", action=action, environment="github-hosted").run("issues", {}, env=env)

    assert asked_of_sudo(tmp_path) == ["sudo -n sysctl --write kernel.apparmor_restrict_unprivileged_userns=0"]
    assert (run.exit_code, run.annotations) == (0, [])


async def test_where_bubblewrap_works_nothing_is_changed(action: Path, tmp_path: Path) -> None:
    env = on_a_runner(tmp_path, "exit 0")

    await ActionRunner(tmp_path / "jobs", action=action, environment="github-hosted").run("issues", {}, env=env)

    assert asked_of_sudo(tmp_path) == []


@pytest.mark.parametrize(
    ("environment", "inputs"),
    [
        ("self-hosted", {}),
        ("github-hosted", {"prepare-sandbox": "never"}),
        ("github-hosted", {"sandbox": "sandlock"}),
        ("github-hosted", {"sandbox": "none"}),
    ],
)
async def test_other_machines_are_left_as_they_are(
    action: Path, tmp_path: Path, environment: str, inputs: dict[str, str]
) -> None:
    env = on_a_runner(tmp_path, "exit 1")

    run = await ActionRunner(tmp_path / "jobs", action=action, environment=environment).run(
        "issues", {}, inputs=inputs, env=env
    )

    assert asked_of_sudo(tmp_path) == []
    assert run.exit_code == 0


async def test_a_sandbox_that_cannot_be_prepared_is_a_warning(action: Path, tmp_path: Path) -> None:
    env = on_a_runner(tmp_path, "exit 1")

    run = await ActionRunner(tmp_path / "jobs", action=action, environment="github-hosted").run("issues", {}, env=env)

    assert run.exit_code == 0
    assert [(note.kind, note.title) for note in run.annotations] == [("warning", "Devflow: sandbox")]


async def test_a_wrong_word_for_preparing_is_an_error(action: Path, tmp_path: Path) -> None:
    run = await ActionRunner(tmp_path / "jobs", action=action).run("issues", {}, inputs={"prepare-sandbox": "yes"})

    assert run.exit_code == 1
    assert "prepare-sandbox" in run.annotations[0].message


def test_the_scripts_can_be_run() -> None:
    for script in (ROOT / "action").iterdir():
        assert script.stat().st_mode & stat.S_IXUSR
        assert script.read_text().startswith("#!/usr/bin/env bash\n")
