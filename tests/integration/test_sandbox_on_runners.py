"""What an agent's command must not reach on a runner: the job's services and credentials, docker, and sudo."""

import os
import shutil
import socket
import stat
from pathlib import Path
from uuid import uuid4

import pytest

from tests.action_runner.job import SERVICES
from tests.sandboxes import CONFINED, make_worktree, run, run_python, sandbox

pytestmark = pytest.mark.parametrize("name", CONFINED)

JOB = {
    **SERVICES,
    "GITHUB_TOKEN": "ghs_of-the-job",
    "GH_TOKEN": "ghs_of-the-job",
    "INPUT_GITHUB_TOKEN": "ghs_of-the-job",
    "DEVFLOW_INPUT_GITHUB_TOKEN": "ghs_of-the-job",
    "DEVFLOW_INPUT_OPENAI_API_KEY": "sk-of-the-job",
    "DEVFLOW_INPUT_DATABASE_URL": "postgresql://devflow:of-the-job@db.example/devflow",
    "GITHUB_ENV": "/runner/env-of-the-job",
    "GITHUB_OUTPUT": "/runner/output-of-the-job",
    "RUNNER_TEMP": "/runner/temp-of-the-job",
    "DOCKER_HOST": "unix:///docker-of-the-job.sock",
    "SSH_AUTH_SOCK": "/agent-of-the-job",
}


@pytest.fixture
def worktree(tmp_path: Path) -> Path:
    return make_worktree(tmp_path)


@pytest.mark.parametrize("network", [False, True])
async def test_nothing_of_the_jobs_environment_reaches_a_command(
    name: str, worktree: Path, network: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in JOB.items():
        monkeypatch.setenv(variable, value)

    result = await run(sandbox(name), worktree, "env; cat /proc/self/environ /proc/*/environ; true", network=network)

    assert result.exit_code == 0
    assert "of-the-job" not in result.output
    names = {line.partition("=")[0] for line in result.output.splitlines() if "=" in line}
    prefixes = ("ACTIONS_", "GITHUB_", "GH_", "INPUT_", "DEVFLOW_", "RUNNER_", "DOCKER_", "SSH_")
    assert [found for found in names if found.startswith(prefixes)] == []


@pytest.mark.parametrize("network", [False, True])
async def test_a_socket_where_docker_has_its_own_cannot_be_reached(name: str, worktree: Path, network: bool) -> None:
    if not os.access("/run", os.W_OK):
        pytest.skip("only an administrator can put a socket of this test's own beside docker's")
    place = Path(f"/run/devflow-test-{uuid4().hex}.sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(place))
        server.listen()
        place.chmod(0o666)
        try:
            program = f"""
import socket
for path in ({str(place)!r}, "/var" + {str(place)!r}, "/proc/1/root" + {str(place)!r}):
    try:
        socket.socket(socket.AF_UNIX).connect(path)
        print("connected", path)
    except OSError as error:
        print(type(error).__name__)
"""
            result = await run_python(sandbox(name), worktree, program, network=network)
        finally:
            place.unlink()

    assert result.exit_code == 0
    assert "connected" not in result.output


async def test_the_folders_of_sockets_and_of_the_runner_are_not_shown(
    name: str, worktree: Path, tmp_path: Path
) -> None:
    (tmp_path / "_runner_file_commands").mkdir()
    (tmp_path / "_runner_file_commands" / "set_env").write_text("")

    result = await run(
        sandbox(name),
        worktree,
        f"cat /var/run/docker.sock; ls /run /var/run {tmp_path}; echo X=1 >> {tmp_path}/_runner_file_commands/set_env",
    )

    assert result.exit_code != 0
    assert "docker" not in result.output.replace("/var/run/docker.sock", "")
    assert (tmp_path / "_runner_file_commands" / "set_env").read_text() == ""


async def test_a_checkouts_credentials_are_not_shown(name: str, worktree: Path, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout" / ".git"
    checkout.mkdir(parents=True)
    (checkout / "config").write_text(
        '[http "https://github.com/"]\n\textraheader = AUTHORIZATION: basic b2YtdGhlLWpvYg==\n'
    )

    result = await run(sandbox(name), worktree, f"cat {checkout}/config; git config --list --show-origin")

    assert "b2YtdGhlLWpvYg" not in result.output


async def test_no_program_gives_a_command_more_rights_than_it_has(name: str, worktree: Path) -> None:
    result = await run(sandbox(name), worktree, "cat /proc/self/status")

    status = dict(line.split(":", 1) for line in result.output.splitlines() if ":" in line)
    # with this, the kernel gives the owner's rights of a set-user-id program to nobody, and sudo is one
    assert status["NoNewPrivs"].strip() == "1"
    if name == "bwrap":
        assert {int(status[kind], 16) for kind in ("CapEff", "CapPrm", "CapBnd")} == {0}


@pytest.mark.skipif(shutil.which("sudo") is None, reason="sudo is not installed on this machine")
async def test_sudo_does_not_work(name: str, worktree: Path) -> None:
    result = await run(sandbox(name), worktree, "sudo -n true")

    assert result.exit_code != 0


async def test_a_set_user_id_program_runs_as_who_started_it(name: str, worktree: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only an administrator can make such a program for this test")
    program = worktree / "who"
    shutil.copy(shutil.which("id") or "/usr/bin/id", program)
    os.chown(program, 65534, 65534)
    program.chmod(0o755 | stat.S_ISUID)

    result = await run(sandbox(name), worktree, "./who -u; stat -c %a who")

    assert result.output.splitlines()[0] != "65534"
