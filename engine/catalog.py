"""The catalog: workflows, personas, schemas, prices and configuration, a repository's own over the built-in ones.

The host reads the files at the base commit (`is_catalog_path` says which) and makes a `Catalog` of them; the start of a
run takes what it needs and stores it with the run, so nothing here is read again for a run that has started.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache, lru_cache
from typing import Any, NoReturn

from engine.builtin import builtin_names, read_builtin
from engine.domain.artifact import schema_errors
from engine.domain.config import CONFIG_PATH, RepositoryConfig
from engine.domain.errors import DevflowError
from engine.domain.files import Finding, load_model, suggest
from engine.domain.persona import Persona
from engine.domain.pricing import PriceTable, parse_prices
from engine.domain.workflow import SCHEMA_ID_PATTERN, Workflow
from engine.domain.yaml_lines import MAX_BYTES, Document, FilesInvalid, Location, Problem, parse_yaml, show

WORKFLOW_PATH = re.compile(r"^\.devflow/workflows/([^/]+)\.yaml$")
PERSONA_PATH = re.compile(r"^\.devflow/personas/([^/]+)\.yaml$")
SCHEMA_PATH = re.compile(r"^\.devflow/schemas/([^/]+/[^/]+)\.json$")
_PREFIXES = (".devflow/workflows/", ".devflow/personas/", ".devflow/schemas/")
_PRICES = "prices.yaml"

Json = dict[str, Any]


def repository_prefixes(config_path: str = CONFIG_PATH) -> tuple[str, ...]:
    """Return below what everything lies that `Catalog` reads of a repository."""
    return (*_PREFIXES, config_path)


def is_catalog_path(path: str, config_path: str = CONFIG_PATH) -> bool:
    """Whether a file of a repository, by its path from the root, belongs to the catalog."""
    return path == config_path or any(form.match(path) for form in (WORKFLOW_PATH, PERSONA_PATH, SCHEMA_PATH))


@cache
def builtin_files() -> Mapping[str, bytes]:
    """Return the built-in files under the paths that would override them."""
    return {f".devflow/{name}": read_builtin(name) for name in builtin_names() if "/" in name}


@cache
def _builtin_prices() -> PriceTable:
    return PriceTable(parse_prices(read_builtin(_PRICES), f"built-in {_PRICES}"))


class Catalog:
    """What one repository has at one commit; `repository_files` maps paths from the root to contents."""

    def __init__(self, repository_files: Mapping[str, bytes] | None = None, *, config_path: str = CONFIG_PATH) -> None:
        own = repository_files or {}
        self._config_path = config_path
        self._own = {path: data for path, data in own.items() if is_catalog_path(path, config_path)}
        # The repository's own files come first, and an equal path hides the built-in file.
        self._files = {**dict(sorted(self._own.items())), **{k: v for k, v in builtin_files().items() if k not in own}}

    def config(self) -> RepositoryConfig:
        """Return the repository's configuration, or the defaults; raises `config_invalid`."""
        data = self._own.get(self._config_path)
        return RepositoryConfig() if data is None else load_model(RepositoryConfig, data, self._config_path)[0]

    def workflow_names(self) -> list[str]:
        """Return the names of all workflows, sorted."""
        return sorted(self._named(WORKFLOW_PATH))

    def workflow(self, name: str) -> Workflow:
        """Return a workflow whose schemas exist and fit.

        Raises `workflow_not_found`, `config_invalid` or `schema_not_found`.
        """
        known = self._named(WORKFLOW_PATH)
        if name not in known:
            _not_found("workflow", name, known)
        workflow, document = load_workflow(known[name], self._files[known[name]])
        for phase in workflow.phases:
            if phase.expected_artifact is not None:
                self.schema(phase.expected_artifact.schema_id)
        problems = [document.problem(*_parts(one)) for one in schema_findings(workflow, self.schema)]
        if problems:
            raise FilesInvalid(problems)
        return workflow

    def personas(self) -> list[Persona]:
        """Return all personas, the repository's own first, each group by name; raises `config_invalid`."""
        problems: list[Problem] = []
        personas: list[Persona] = []
        named = sorted(self._named(PERSONA_PATH).items(), key=lambda item: (item[1] not in self._own, item[0]))
        for _, path in named:
            try:
                personas.append(load_persona(path, self._files[path])[0])
            except FilesInvalid as error:
                problems += error.problems
        if problems:
            raise FilesInvalid(problems)
        return personas

    def persona(self, name: str) -> Persona:
        """Return one persona; raises `persona_not_found` or `config_invalid`."""
        known = self._named(PERSONA_PATH)
        if name not in known:
            _not_found("persona", name, known)
        return load_persona(known[name], self._files[known[name]])[0]

    def schema_ids(self) -> list[str]:
        """Return the ids of all schemas, sorted; raises `config_invalid`."""
        return sorted(self._schemas())

    def schema(self, schema_id: str) -> Json:
        """Return an artifact schema by its id; raises `schema_not_found` or `config_invalid`."""
        schemas = self._schemas()
        if schema_id not in schemas:
            _not_found("schema", schema_id, schemas)
        return schemas[schema_id]

    def schemas_of(self, workflow: Workflow) -> dict[str, Json]:
        """Return the schemas of the workflow's artifacts by id, to be frozen with a run; raises as `schema` does."""
        ids = {phase.expected_artifact.schema_id for phase in workflow.phases if phase.expected_artifact}
        return {schema_id: self.schema(schema_id) for schema_id in sorted(ids)}

    def prices(self, user_file: bytes | None = None, user_path: str = "price file") -> PriceTable:
        """Return the price table: built in, then the user's file, then the repository's configuration.

        Raises `config_invalid` for a broken file: a broken table must never look like one without prices.
        """
        table = _builtin_prices()
        if user_file is not None:
            table = table.merged(parse_prices(user_file, user_path))
        return table.merged(self.config().prices)

    def _named(self, form: re.Pattern[str]) -> dict[str, str]:
        return {match.group(1): path for path in self._files if (match := form.match(path))}

    def _schemas(self) -> dict[str, Json]:
        # Built-in first, so that a repository's file with the same id wins; one with another version stands beside it.
        schemas = {}
        for path, data in [*builtin_files().items(), *self._own.items()]:
            if SCHEMA_PATH.match(path):
                schema = load_schema(path, data)
                schemas[str(schema["$id"])] = schema
        return schemas


def _not_found(kind: str, name: str, known: Mapping[str, Any]) -> NoReturn:
    listed = ", ".join(sorted(known))
    raise DevflowError(f"{kind}_not_found", f"there is no {kind} {name!r}{suggest(name, known)}; there are: {listed}")


def load_workflow(path: str, data: bytes) -> tuple[Workflow, Document]:
    """Return the workflow in a file and where its parts stand; raises `FilesInvalid`."""
    workflow, document = load_model(Workflow, data, path)
    _check_name(path, WORKFLOW_PATH, workflow.name, document)
    return workflow, document


def load_persona(path: str, data: bytes) -> tuple[Persona, Document]:
    """Return the persona in a file and where its parts stand; raises `FilesInvalid`."""
    persona, document = load_model(Persona, data, path)
    _check_name(path, PERSONA_PATH, persona.name, document)
    return persona, document


def _check_name(path: str, form: re.Pattern[str], name: str, document: Document) -> None:
    match = form.match(path)
    if match and match.group(1) != name:
        raise FilesInvalid([document.problem(("name",), show(name), f"{match.group(1)}, as the file is called")])


@lru_cache(maxsize=64)
def load_schema(path: str, data: bytes) -> Json:
    """Return the artifact schema in a file; raises `FilesInvalid`.

    The value is shared between callers, who leave it as it is. The `$id` is the schema's id (`dev/spec@1`); in the
    repository's folder it begins as the file is called.
    """
    if len(data) > MAX_BYTES:
        raise FilesInvalid([Problem(path, 1, "", f"{len(data)} bytes", f"at most {MAX_BYTES} bytes")])
    try:
        schema = json.loads(data.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise FilesInvalid([Problem(path, error.lineno, "", f"no JSON ({error.msg})", "one JSON Schema")]) from error
    except (ValueError, RecursionError) as error:
        raise FilesInvalid([Problem(path, 1, "", "no readable JSON", "one JSON Schema in UTF-8")]) from error
    wrong = [(_location(one.path, schema), one.message, "a JSON Schema 2020-12") for one in schema_errors(schema)]
    schema_id = schema.get("$id") if isinstance(schema, dict) else None
    match = SCHEMA_PATH.match(path)
    named = isinstance(schema_id, str) and re.match(SCHEMA_ID_PATTERN, schema_id)
    if not named or (match and str(schema_id).split("@")[0] != match.group(1)):
        wrong.append((("$id",), show(schema_id), f"{match.group(1)}@VERSION" if match else "an id such as dev/spec@1"))
    if wrong:
        document = _lines_of(path, data, schema)
        raise FilesInvalid([document.problem(*one) for one in wrong])
    result: Json = schema
    return result


def _lines_of(path: str, data: bytes, value: Any) -> Document:
    try:
        return Document(path, value, parse_yaml(data, path).lines)
    except FilesInvalid:
        # JSON that is no YAML (tabs, deep nesting): right or wrong as it is, only without lines.
        return Document(path, value)


def _location(pointer: str, value: Any) -> Location:
    where: list[str | int] = []
    for raw in pointer.split("/")[1:]:
        part = raw.replace("~1", "/").replace("~0", "~")
        if isinstance(value, list) and part.isdigit() and int(part) < len(value):
            where.append(int(part))
            value = value[int(part)]
        elif isinstance(value, dict) and part in value:
            where.append(part)
            value = value[part]
        elif part:
            where.append(part)
    return tuple(where)


def schema_findings(workflow: Workflow, schema_of: Callable[[str], Json]) -> Iterator[Finding]:
    """Yield where a phase asks of its artifact what the artifact's schema has no room for."""
    for index, phase in enumerate(workflow.phases):
        if phase.expected_artifact is None:
            continue
        schema = schema_of(phase.expected_artifact.schema_id)
        properties = schema.get("properties", {})
        where = ("phases", index, "expected_artifact", "schema")
        closed = schema.get("additionalProperties") is False or schema.get("unevaluatedProperties") is False
        name = phase.expected_artifact.schema_id
        if phase.checks and closed and "checks" not in properties:
            yield Finding(where, f"{name} has no room for checks", "a schema with a property checks, or no checks")
        if "checks" in schema.get("required", []):
            # The artifact is validated before the checks are run as well.
            yield Finding(
                where, f"{name} requires checks, which the engine adds later", "a schema where checks may be absent"
            )
        verdicts = properties.get("verdict", {}).get("enum", [])
        if phase.on_changes_requested is not None and "changes_requested" not in verdicts:
            yield Finding(
                where, f"{name} has no verdict changes_requested", "a schema with this verdict, e.g. dev/review@1"
            )


def _parts(finding: Finding) -> tuple[Location, str, str]:
    return finding.where, finding.found, finding.allowed
