"""What nobody foresaw is told like every other error: a code, one document with --json, and no traceback."""

import json
from pathlib import Path

from tests.support.forked_cli import ForkedCli
from tests.support.scenes import Scene


def test_an_error_without_a_code_of_its_own_is_told_without_a_traceback(
    devflow: ForkedCli, scene: Scene, tmp_path: Path
) -> None:
    folder = tmp_path / "blocked"
    folder.mkdir()
    (folder / "mirrors").write_text("a file where a folder has to be")
    env = {"DEVFLOW_DATA_DIR": str(folder)}
    command = [*scene.run(), "--cassette", str(scene.cassette)]

    as_json = devflow.run(*command, "--json", env=env)
    as_text = devflow.run(*command, env=env | {"DEVFLOW_LOG_LEVEL": "chatty"})

    error = json.loads(as_json.out)["error"]
    assert (as_json.code, error["code"], error["kind"]) == (1, "internal_error", "fatal")
    assert "mirrors" in error["message"]
    assert as_json.err == ""
    assert as_text.code == 1
    assert as_text.err.startswith("error: FileExistsError")
    assert "Traceback" not in as_text.err
