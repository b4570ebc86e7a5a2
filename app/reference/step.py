"""Inputs and outputs of the GitHub Action, as `action.yml` has them, for the tables of its page."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ACTION = Path(__file__).parents[2] / "action.yml"
INPUTS_HEAD = ("input", "default", "meaning")
OUTPUTS_HEAD = ("output", "meaning")


def input_rows() -> Iterator[tuple[str, str, str]]:
    """Yield a row an input: its name, its default, what it means."""
    for name, spec in _part("inputs"):
        default = str(spec.get("default", "")).removeprefix("${{").removesuffix("}}").strip()
        yield f"`{name}`", f"`{default}`" if default else "", " ".join(spec["description"].split())


def output_rows() -> Iterator[tuple[str, str]]:
    """Yield a row an output: its name and what it means."""
    for name, spec in _part("outputs"):
        yield f"`{name}`", " ".join(spec["description"].split())


def _part(name: str) -> list[tuple[str, dict[str, Any]]]:
    return list(yaml.safe_load(ACTION.read_text())[name].items())
