"""`devflow validate`: every mistake in a repository's Devflow files, with file, line, what was found and is allowed.

It reads the files as the start of a run does, and goes on after the first mistake.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from engine.catalog import (
    PERSONA_PATH,
    SCHEMA_PATH,
    WORKFLOW_PATH,
    Json,
    builtin_files,
    load_persona,
    load_schema,
    load_workflow,
    schema_findings,
)
from engine.domain.config import CONFIG_PATH, RepositoryConfig
from engine.domain.errors import DevflowError
from engine.domain.files import load_model, suggest
from engine.domain.persona import Persona
from engine.domain.pricing import parse_prices
from engine.domain.workflow import ALL_CHECKS, Workflow
from engine.domain.yaml_lines import MAX_BYTES, Document, FilesInvalid, Location, Problem, parse_yaml

__all__ = ["Problem", "read_tree", "validate_files"]

_PLACES = (
    ".devflow/workflows/NAME.yaml, .devflow/personas/NAME.yaml, .devflow/schemas/NAMESPACE/NAME.json, " + CONFIG_PATH
)
_T = TypeVar("_T")


def validate_files(files: Mapping[str, bytes]) -> list[Problem]:
    """Return the mistakes in the files (paths from the repository's root to contents), by file and line.

    Files elsewhere than in their place are taken for what their keys say, so that one file can be checked alone.
    """
    review = _Review()
    for path, data in sorted(files.items()):
        review.read(path, data)
    review.compare()
    return sorted(review.problems, key=lambda problem: (problem.file, problem.line))


def read_tree(path: Path) -> dict[str, bytes]:
    """Return the Devflow files below a repository's folder by their path from its root, or the one file at `path`.

    Raises `usage` where there is nothing at the path. Symbolic links are left out: a commit has them as links only.
    """
    path = path.absolute()
    anchors = [index for index, part in enumerate(path.parts) if part in (".devflow", ".github")]
    if path.is_file():
        start = anchors[-1] if anchors else len(path.parts) - 1
        return {"/".join(path.parts[start:]): _read(path)}
    if not path.is_dir():
        raise DevflowError("usage", f"there is no file or folder {path}", recovery_hint="name a repository's folder")
    root = Path(*path.parts[: anchors[-1]]) if anchors else path
    found = sorted((root / ".devflow").rglob("*")) + sorted((root / ".github").glob("devflow.y*ml"))
    names = {one.relative_to(root).as_posix(): one for one in found if one.is_file() and not one.is_symlink()}
    return {name: _read(one) for name, one in names.items() if not name.startswith(".devflow/runs/")}


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


class _Review:
    """The files read so far, with their mistakes."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.workflows: dict[str, tuple[Workflow, Document]] = {}
        self.personas: dict[str, tuple[Persona, Document]] = {}
        self.schemas: dict[str, Json] = {}
        self.broken: set[str] = set()
        self.config: tuple[RepositoryConfig, Document] | None = None

    def read(self, path: str, data: bytes) -> None:
        match self._kind(path, data):
            case "workflow":
                workflow = self._try(path, lambda: load_workflow(path, data))
                if workflow:
                    self.workflows[workflow[0].name] = workflow
            case "persona":
                persona = self._try(path, lambda: load_persona(path, data))
                if persona:
                    self.personas[persona[0].name] = persona
            case "schema":
                schema = self._try(path, lambda: load_schema(path, data))
                if schema:
                    self.schemas[str(schema["$id"])] = schema
            case "prices":
                self._try(path, lambda: parse_prices(data, path))
            case "config":
                self.config = self._try(path, lambda: load_model(RepositoryConfig, data, path)) or self.config
            case "misplaced":
                self.problems.append(Problem(path, 1, "", "a file that nothing reads", _PLACES))

    def _try(self, path: str, load: Callable[[], _T]) -> _T | None:
        try:
            return load()
        except FilesInvalid as error:
            self.problems += error.problems
            self.broken.add(path)
            return None

    def _kind(self, path: str, data: bytes) -> str:
        for kind, form in (("workflow", WORKFLOW_PATH), ("persona", PERSONA_PATH), ("schema", SCHEMA_PATH)):
            if form.match(path):
                return kind
        if path == CONFIG_PATH:
            return "config"
        if path.startswith(".devflow/"):
            loose = re.search(r"\.(ya?ml|json)$", path) and not path.startswith(".devflow/runs/")
            return "misplaced" if loose else "other"
        if path.startswith(".github/"):
            return "misplaced" if path.rsplit("/", 1)[-1] in ("devflow.yaml", "devflow.yml") else "other"
        return self._kind_by_keys(path, data)

    def _kind_by_keys(self, path: str, data: bytes) -> str:
        if path.endswith(".json"):
            return "schema"
        try:
            value = parse_yaml(data, path).value
        except FilesInvalid as error:
            self.problems += error.problems
            return "other"
        keys = set(value) if isinstance(value, dict) else set()
        if keys & {"phases", "roles", "default_gates"}:
            return "workflow"
        if keys & {"prompt", "backend", "capabilities"}:
            return "persona"
        return "prices" if "models" in keys else "config"

    def compare(self) -> None:
        """Find what is wrong only between files: names that nothing has."""
        workflows, personas, schemas = self._known()
        for workflow, document in self.workflows.values():
            self._compare_workflow(workflow, document, schemas)
        if self.config is None:
            return
        config, document = self.config
        references: list[tuple[Location, str, set[str]]] = [(("workflow",), config.workflow, workflows)]
        references += [(("labels", label), name, workflows) for label, name in config.labels.items()]
        references += [(("personas", role), name, personas) for role, name in config.personas.items()]
        for where, name, known in references:
            if name not in known:
                self.problems.append(
                    document.problem(where, f'"{name}"', ", ".join(sorted(known)) + suggest(name, known))
                )

    def _known(self) -> tuple[set[str], set[str], dict[str, Json]]:
        # A broken file still has its name: that it is broken is told once, not at every use.
        paths = [*builtin_files(), *self.broken]
        workflows = {*self.workflows, *(m.group(1) for path in paths if (m := WORKFLOW_PATH.match(path)))}
        personas = {*self.personas, *(m.group(1) for path in paths if (m := PERSONA_PATH.match(path)))}
        builtin = [load_schema(path, data) for path, data in builtin_files().items() if SCHEMA_PATH.match(path)]
        return workflows, personas, {str(schema["$id"]): schema for schema in builtin} | self.schemas

    def _compare_workflow(self, workflow: Workflow, document: Document, schemas: Mapping[str, Json]) -> None:
        broken = {match.group(1) for path in self.broken if (match := SCHEMA_PATH.match(path))}
        unknown = False
        for index, phase in enumerate(workflow.phases):
            wanted = phase.expected_artifact.schema_id if phase.expected_artifact else None
            if wanted is not None and wanted not in schemas:
                unknown = True
                if wanted.split("@")[0] not in broken:
                    where = ("phases", index, "expected_artifact", "schema")
                    allowed = ", ".join(sorted(schemas)) + suggest(wanted, schemas)
                    self.problems.append(document.problem(where, f'"{wanted}"', allowed))
            self._compare_checks(workflow, index, document)
        if not unknown:
            for one in schema_findings(workflow, lambda schema_id: schemas[schema_id]):
                self.problems.append(document.problem(one.where, one.found, one.allowed))

    def _compare_checks(self, workflow: Workflow, index: int, document: Document) -> None:
        checks = self.config[0].checks if self.config else None
        if checks is None:
            return  # detected ones are known only where the repository is
        for place, check in enumerate(workflow.phases[index].checks):
            if check.use != ALL_CHECKS and check.use not in checks:
                allowed = ", ".join([ALL_CHECKS, *sorted(checks)]) + suggest(check.use, checks)
                where = ("phases", index, "checks", place, "use")
                self.problems.append(document.problem(where, f'"{check.use}"', allowed))
