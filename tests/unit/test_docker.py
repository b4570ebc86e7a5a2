"""The image and the compose file, by plain rules: nothing here needs a Docker engine."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.reference.tables import command_list, variables

ROOT = Path(__file__).parents[2]
TAG = re.compile(r"[a-z0-9./-]+:\d+\.\d+(\.\d+)?-[a-z0-9-]+(@sha256:[0-9a-f]{64})?")
# Variables of other programs: the shell, Python, and the Postgres image.
OTHERS = {"PATH", "PYTHONPATH", "PYTHONUNBUFFERED", "POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD"}


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions with their arguments, lines joined."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]


def arguments(name: str) -> list[str]:
    """Return the arguments of every such instruction."""
    return [rest for word, rest in instructions() if word == name]


@pytest.fixture
def compose() -> dict[str, Any]:
    """The compose file."""
    return dict(yaml.safe_load((ROOT / "compose.yaml").read_text()))


def test_every_instruction_is_a_plain_one() -> None:
    known = {"FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "VOLUME", "EXPOSE", "HEALTHCHECK", "STOPSIGNAL"}

    assert {word for word, _ in instructions()} <= known | {"ENTRYPOINT", "CMD"}


def test_the_compose_file_is_valid_by_its_schema() -> None:
    tool = str(Path(sys.executable).with_name("check-jsonschema"))
    command = [tool, "--builtin-schema", "vendor.compose-spec", "compose.yaml"]

    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)

    assert checked.returncode == 0, checked.stdout


def test_images_have_exact_versions(compose: dict[str, Any]) -> None:
    images = [rest.split()[0] for rest in arguments("FROM")]
    images += [service["image"] for service in compose["services"].values() if "build" not in service]

    assert len(images) == 3
    assert [image for image in images if not TAG.fullmatch(image)] == []
    assert len(set(images[:2])) == 1


def test_what_is_copied_is_tracked_and_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    sources = [rest.split()[:-1] for rest in arguments("COPY") if not rest.startswith("--from=")]

    assert len(sources) == 3
    for (source,) in sources:
        tracked = subprocess.run(
            ["git", "ls-files", "--", source], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert tracked.stdout, source
        assert f"!{source.partition('/')[0]}" in ignored
        assert source not in ignored


def test_nothing_else_gets_into_the_image() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]

    assert lines[0] == "*"
    assert {line for line in lines if line.startswith("!")} == {"!app", "!engine", "!requirements"}


def test_the_requirements_are_installed_by_their_hashes() -> None:
    (install,) = [rest for rest in arguments("RUN") if "pip install" in rest]

    assert "--require-hashes" in install
    assert "requirements/runtime.txt" in install


def test_the_program_runs_as_nobody_special() -> None:
    order = [word for word, _ in instructions()]
    (user,) = arguments("USER")

    assert user.isdigit()
    assert int(user) > 0
    assert order.index("USER") > max(place for place, word in enumerate(order) if word in ("RUN", "COPY"))
    assert f"--uid {user} " in " ".join(arguments("RUN"))


def test_git_and_the_sandbox_are_inside() -> None:
    (install,) = [rest for rest in arguments("RUN") if "apt-get install" in rest]

    assert {"bubblewrap", "git", "ca-certificates", "--no-install-recommends"} <= set(install.split())
    assert "rm -rf /var/lib/apt/lists/*" in install


def test_the_health_check_asks_what_the_server_answers() -> None:
    (check,) = arguments("HEALTHCHECK")
    command = json.loads(check.partition(" CMD ")[2])
    paths = re.findall(r"http://127\.0\.0\.1:8000(/\w+)", command[-1])

    assert paths == ["/healthz"]
    assert f'app.add_route("{paths[0]}"' in (ROOT / "app" / "server.py").read_text()
    compile(command[-1], "health", "exec")


def test_the_commands_are_those_of_devflow(compose: dict[str, Any]) -> None:
    (entry,), (command,) = arguments("ENTRYPOINT"), arguments("CMD")
    started = [json.loads(command), *(one["command"] for one in compose["services"].values() if "command" in one)]

    assert json.loads(entry) == ["devflow"]
    assert json.loads(command) == ["serve", "--host", "0.0.0.0"]
    assert {words[0] for words in started} == {"serve", "worker"} <= {name for name, _ in command_list()}


def test_the_program_of_the_image_is_on_its_path() -> None:
    (made,) = [rest for rest in arguments("RUN") if "bin/devflow" in rest]
    (path,) = [rest for rest in arguments("ENV") if rest.startswith("PATH=")]

    assert r"-P -m app.cli \"$@\"" not in made
    assert 'app.cli "$@"' in made
    assert shlex.split(path)[0].startswith("PATH=/opt/devflow/bin:")
    assert "WORKDIR /opt/devflow" in (ROOT / "Dockerfile").read_text()


def test_variables_are_settings_that_there_are(compose: dict[str, Any]) -> None:
    used = {rest.partition("=")[0] for rest in arguments("ENV")}
    for service in compose["services"].values():
        used |= set(service["environment"])

    assert used - OTHERS <= set(variables())


def test_no_secret_stands_in_the_files(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for name, value in service["environment"].items():
            if re.search(r"PASSWORD|SECRET|KEY$|URL$", name):
                assert "${" in value, name
    assert compose["services"]["server"]["environment"]["GITHUB_PRIVATE_KEY_PATH"].startswith("/run/secrets/")
    assert set(compose["secrets"]) == {"github_private_key"}


def test_the_server_is_reached_from_this_machine_alone_and_does_no_work(compose: dict[str, Any]) -> None:
    server, worker = compose["services"]["server"], compose["services"]["worker"]

    assert server["ports"] == ["127.0.0.1:8000:8000"]
    assert server["command"][-2:] == ["--workers", "0"]
    assert "ports" not in worker
    assert "OPENAI_API_KEY" not in server["environment"]
    assert server["cap_drop"] == worker["cap_drop"] == ["ALL"]
    assert not any("privileged" in service for service in compose["services"].values())


def test_volumes_that_are_used_are_declared(compose: dict[str, Any]) -> None:
    used = {one.partition(":")[0] for service in compose["services"].values() for one in service.get("volumes", [])}

    assert used == set(compose["volumes"])
    assert arguments("VOLUME") == ["/var/lib/devflow"]
    assert any(one.endswith(":/var/lib/devflow") for one in compose["services"]["worker"]["volumes"])
