"""The runner of our own: expressions, files, and the log, as GitHub's runner has them."""

from pathlib import Path

import pytest
import yaml

from tests.action_runner.expressions import ExpressionError, condition, evaluate, interpolate
from tests.action_runner.files import FileError, read_values
from tests.action_runner.log import Annotation, LogReader
from tests.action_runner.runner import ActionError, ActionRunner

CONTEXTS = {
    "inputs": {"model": "m", "empty": ""},
    "github": {"token": "t", "action_path": "/a"},
    "steps": {"one": {"outputs": {"ready": "true"}}},
}
FUNCTIONS = {"success": lambda: True, "failure": lambda: False, "always": lambda: True, "hashFiles": "-".join}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("inputs.model", "m"),
        ("inputs.empty || github.token", "t"),
        ("inputs.model && 'yes' || 'no'", "yes"),
        ("steps.one.outputs.ready != 'true'", False),
        ("steps.one.outputs.missing", None),
        ("steps.other.outputs.ready == ''", True),
        ("'it''s'", "it's"),
        ("'A' == 'a'", True),
        ("!(1 == 2) && true", True),
        ("always()", True),
        ("null", None),
    ],
)
def test_expressions_have_githubs_values(text: str, value: object) -> None:
    assert evaluate(text, CONTEXTS, FUNCTIONS) == value


@pytest.mark.parametrize(
    "text",
    ["inputs.unknown", "github.event.issue.title", "secrets.X", "toJSON(github)", "a[0]", "1 <", "", "inputs.model x"],
)
def test_an_expression_that_is_not_known_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError):
        evaluate(text, CONTEXTS, FUNCTIONS)


def test_a_text_is_filled_in() -> None:
    assert interpolate("a ${{ inputs.model }} ${{ steps.x.outputs.y }}.", CONTEXTS, FUNCTIONS) == "a m ."


def test_a_condition_without_a_function_means_success_as_well() -> None:
    failed = FUNCTIONS | {"success": lambda: False, "failure": lambda: True}

    assert condition(None, CONTEXTS, FUNCTIONS)
    assert not condition(None, CONTEXTS, failed)
    assert not condition("inputs.model == 'm'", CONTEXTS, failed)
    assert condition("always()", CONTEXTS, failed)
    assert condition("${{ failure() }}", CONTEXTS, failed)


def test_files_of_values_are_read() -> None:
    assert read_values("a=1=2\n\nb<<E\nx\nc=3\nE\nd<<E\nE\n") == {"a": "1=2", "b": "x\nc=3", "d": ""}


@pytest.mark.parametrize("text", ["a", "=1", "a<<E\nx\n", "<<E\nE\n"])
def test_broken_files_are_refused(text: str) -> None:
    with pytest.raises(FileError):
        read_values(text)


def test_the_log_is_read_as_the_runner_reads_it() -> None:
    reader = LogReader()

    reader.read(
        "::add-mask::secret\nthe secret\n::group::G%0AH\n  ::error file=a%2Cb,line=3,title=T%3A::M%25\n"
        "x ##[warning]old\n::endgroup::\n::nothing::x\n"
        "::stop-commands::abc\n::error::no\n::abc::\n::set-output name=a::b\n::set-env name=a::b\n"
    )

    assert reader.annotations == [Annotation("error", "M%", "T:", "a,b", "3"), Annotation("warning", "old")]
    assert reader.groups == ["G\nH"]
    assert reader.ignored == ["::error::no"]
    assert [command.name for command in (*reader.outdated, *reader.other)] == ["set-output", "set-env"]
    shown = ["the ***", "[group] G", "H", "[error] M%", "[warning] old", "::nothing::x", "::error::no"]
    assert reader.text.split("\n") == shown


def action(folder: Path, *steps: dict[str, object]) -> Path:
    """Write an action with these steps."""
    definition = {
        "inputs": {"word": {"default": "w"}},
        "outputs": {"last": {"value": "${{ steps.last.outputs.value }}"}},
        "runs": {"using": "composite", "steps": list(steps)},
    }
    folder.mkdir()
    (folder / "action.yml").write_text(yaml.safe_dump(definition))
    return folder


def shell(run: str, **more: object) -> dict[str, object]:
    """Return a step that runs a line."""
    return {"shell": "bash", "env": {"WORD": "${{ inputs.word }}"}, "run": run, **more}


async def test_steps_hand_on_values_environment_and_paths(tmp_path: Path) -> None:
    folder = action(
        tmp_path / "action",
        shell('echo "A=1" >> "$GITHUB_ENV"; echo /p >> "$GITHUB_PATH"; echo "v=$WORD" >> "$GITHUB_OUTPUT"', id="first"),
        shell('echo "# s" >> "$GITHUB_STEP_SUMMARY"; echo "value=$A:${PATH%%:*}:$V" >> "$GITHUB_OUTPUT"', id="last")
        | {"env": {"V": "${{ steps.first.outputs.v }}"}},
    )

    run = await ActionRunner(tmp_path / "jobs", action=folder).run("issues", {}, inputs={"word": "x"})

    assert (run.exit_code, run.outputs, run.summary) == (0, {"last": "1:/p:x"}, "# s\n")


async def test_after_a_step_that_fails_only_those_run_that_want_to(tmp_path: Path) -> None:
    folder = action(
        tmp_path / "action",
        shell("false | true; echo no", id="a"),
        shell("true", id="b"),
        shell("true", id="c") | {"if": "always()"},
    )

    run = await ActionRunner(tmp_path / "jobs", action=folder).run("issues", {})

    assert (run.exit_code, run.ran, run.log) == (1, ["a", "c"], "")


async def test_masks_of_one_step_hold_in_the_next_and_in_the_summary(tmp_path: Path) -> None:
    folder = action(
        tmp_path / "action",
        shell("echo ::add-mask::abc", id="a"),
        shell('echo "abc ghs_token-of-the-job"; echo abc >> "$GITHUB_STEP_SUMMARY"', id="b"),
    )

    run = await ActionRunner(tmp_path / "jobs", action=folder).run("issues", {})

    assert (run.log, run.summary) == ("*** ***", "***\n")


async def test_what_is_not_known_is_refused(tmp_path: Path) -> None:
    folder = action(tmp_path / "action", {"uses": "other/action@v1", "with": {}})
    runner = ActionRunner(tmp_path / "jobs", action=folder)

    with pytest.raises(ActionError, match="other/action"):
        await runner.run("issues", {})
    with pytest.raises(ActionError, match="no input x"):
        await runner.run("issues", {}, inputs={"x": "1"})
