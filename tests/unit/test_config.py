"""The repository's configuration, and the checks that are found without one."""

from collections.abc import Callable
from decimal import Decimal

import pytest

from engine.domain.config import (
    Check,
    RepositoryConfig,
    checks_of,
    detect_checks,
    expectations_met,
    with_extra_checks,
)
from engine.domain.errors import DevflowError
from engine.domain.files import load_model
from engine.domain.workflow import CheckUse, Expect, PhaseSpec
from engine.domain.yaml_lines import FilesInvalid

FULL = """\
checks:
  unit: {run: python3 -m pytest -q, timeout_seconds: 60}
  lint: {run: ruff check .}
setup: [pip install -r requirements.txt]
workflow: bugfix
budget_usd: 2.50
approvers: [ann, bob@example.com]
requester_may_approve: false
required_approvals: 2
labels: {bug: bugfix}
commands: prefixed
on_conflict: queue
personas: {fixer: implementer-claude}
prices: {my-model: {input: 1, output: 2}}
"""


def load(text: str) -> RepositoryConfig:
    return load_model(RepositoryConfig, text.encode(), ".github/devflow.yml")[0]


def reader(files: dict[str, str]) -> Callable[[str], bytes | None]:
    return lambda name: files[name].encode() if name in files else None


def detect(files: dict[str, str], *folders: str) -> dict[str, str]:
    return {name: check.run for name, check in detect_checks([*files, *folders], reader(files)).items()}


def phase(*uses: tuple[str, str]) -> PhaseSpec:
    checks = tuple(CheckUse(use=use, expect=Expect(expect)) for use, expect in uses)
    return PhaseSpec(key="p", title="P", role="r", instructions="Do.", checks=checks)


def test_everything_that_can_be_set_is_read() -> None:
    config = load(FULL)

    assert config.checks == {
        "unit": Check(run="python3 -m pytest -q", timeout_seconds=60),
        "lint": Check(run="ruff check .", timeout_seconds=600),
    }
    assert config.budget_usd == Decimal("2.5")
    assert config.prices["my-model"].output == Decimal(2)
    assert (config.workflow, config.required_approvals, config.requester_may_approve) == ("bugfix", 2, False)


def test_an_empty_file_is_a_configuration_of_defaults() -> None:
    assert load("") == load("# nothing yet\n") == RepositoryConfig()
    assert RepositoryConfig().checks is None


def test_no_checks_at_all_is_another_thing_than_checks_not_set() -> None:
    assert load("checks: {}").checks == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "chekcs: {}",
            ".github/devflow.yml:1: chekcs: found an unknown key, allowed: abort_on_unlabel, approvers, "
            "budget_usd, checks",
        ),
        ("checks:\n  all: {run: x}", '.github/devflow.yml:2: checks.all: found "all"'),
        ("checks:\n  a b: {run: x}", '.github/devflow.yml:2: checks.a b: found the key "a b", allowed: a check'),
        ("checks:\n  a: {rum: x}", "checks.a.run: found nothing, allowed: a shell command"),
        ("checks:\n  a: pytest", 'checks.a: found "pytest", allowed: {run, timeout_seconds}'),
        ("commands: some", 'commands: found "some", allowed: any, prefixed'),
        ("budget_usd: -1", "budget_usd: found -1, allowed: US dollars above 0"),
        ("personas: {a: 3}", "personas.a: found 3"),
        ("approvers: ann", 'approvers: found "ann", allowed: a list: a login'),
    ],
)
def test_a_mistake_is_told_with_its_line(text: str, expected: str) -> None:
    with pytest.raises(FilesInvalid) as caught:
        load(text)

    assert any(expected in str(problem) for problem in caught.value.problems), caught.value.message


@pytest.mark.parametrize(
    ("files", "folders", "names"),
    [
        ({"pyproject.toml": "[tool.pytest.ini_options]\n"}, (), ["pytest"]),
        ({"pyproject.toml": '[project]\ndependencies = ["pytest>=8"]\n'}, (), ["pytest"]),
        ({"setup.cfg": "[tool:pytest]\n"}, (), ["pytest"]),
        ({"setup.py": ""}, ("tests/",), ["pytest"]),
        ({"a.py": "", "test_a.py": ""}, (), ["pytest"]),
        ({"pyproject.toml": "[project]\n"}, (), []),
        ({"README.md": ""}, ("tests",), []),
        ({"package.json": '{"scripts": {"test": "jest"}}'}, (), ["npm-test"]),
        ({"package.json": '{"scripts": {"test": "echo \\"Error: no test specified\\" && exit 1"}}'}, (), []),
        ({"package.json": "{broken"}, (), []),
        ({"package.json": '["scripts"]'}, (), []),
        ({"Cargo.toml": ""}, ("src",), ["cargo-test"]),
        ({"go.mod": ""}, (), ["go-test"]),
        ({"Makefile": "build:\n\ttrue\ntest: build\n\ttrue\n"}, (), ["make-test"]),
        ({"Makefile": "test := x\nlatest: y\n"}, (), []),
        ({"Makefile": "test:\n\tpytest\n", "pytest.ini": ""}, (), ["pytest"]),
        ({"go.mod": "", "package.json": '{"scripts": {"test": "jest"}}'}, (), ["npm-test", "go-test"]),
        ({}, (), []),
    ],
)
def test_the_usual_checks_are_found_from_the_root_folder(
    files: dict[str, str], folders: tuple[str, ...], names: list[str]
) -> None:
    assert list(detect(files, *folders)) == names


def test_a_typed_check_is_added_and_takes_no_name_that_is_used() -> None:
    checks = with_extra_checks({"extra-1": Check(run="a")}, ["b", "c"])

    assert {name: check.run for name, check in checks.items()} == {"extra-1": "a", "extra-2": "b", "extra-3": "c"}


def test_all_means_every_check_once_and_a_named_one_keeps_its_own_expectation() -> None:
    known = {"unit": Check(run="u"), "lint": Check(run="l")}

    chosen = checks_of(phase(("all", "pass"), ("unit", "fail")), known)

    assert [(name, str(expect)) for name, _, expect in chosen] == [("unit", "fail"), ("lint", "pass")]
    assert checks_of(phase(("all", "pass")), {}) == []


def test_a_check_that_nothing_defines_is_an_error_before_the_run() -> None:
    with pytest.raises(DevflowError) as caught:
        checks_of(phase(("unti", "pass")), {"unit": Check(run="u")})

    assert caught.value.code == "config_invalid"
    assert 'did you mean "unit"?' in caught.value.message


@pytest.mark.parametrize(
    ("results", "met"),
    [
        ([], True),
        ([("pass", 0), ("pass", 0)], True),
        ([("pass", 0), ("pass", 1)], False),
        ([("pass", None)], False),
        ([("fail", 1), ("fail", 0)], True),
        ([("fail", 0), ("fail", 0)], False),
        ([("fail", None)], False),
        ([("fail", 127)], False),
        ([("fail", 126), ("fail", 1)], True),
        ([("fail", 1), ("pass", 1)], False),
    ],
)
def test_a_bug_is_reproduced_by_one_check_that_really_ran_and_failed(
    results: list[tuple[str, int | None]], met: bool
) -> None:
    assert expectations_met([(Expect(expect), code) for expect, code in results]) is met
