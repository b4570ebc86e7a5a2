"""Fixtures of the tests that use the command line."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.forked_cli import ForkedCli
from tests.support.scenes import Scene


@pytest.fixture
def devflow(tmp_path: Path, database_url: str) -> Iterator[ForkedCli]:
    """The command of a person with a data folder and a database of this test alone."""
    cli = ForkedCli(tmp_path, database_url, {"DEVFLOW_RETRY_INITIAL_DELAY": "0.01", "DEVFLOW_RETRY_MAX_ATTEMPTS": "2"})
    yield cli
    cli.close()


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """A sample repository with short workflows."""
    return Scene(tmp_path)
