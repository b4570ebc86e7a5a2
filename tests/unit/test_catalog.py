"""The catalog: a repository's own files over the built-in ones, and names that nothing has."""

import json

import pytest

from engine.builtin import read_builtin
from engine.catalog import Catalog, builtin_files, is_catalog_path
from engine.domain.canonical import content_hash
from engine.domain.config import RepositoryConfig
from engine.domain.errors import DevflowError

WORKFLOW = read_builtin("workflows/docs.yaml").decode()
PERSONA = read_builtin("personas/writer.yaml").decode()
SCHEMA = read_builtin("schemas/dev/spec.json").decode()


def refused(catalog: Catalog, method: str, name: str) -> DevflowError:
    with pytest.raises(DevflowError) as caught:
        getattr(catalog, method)(name)
    return caught.value


def test_without_a_repositorys_files_the_built_in_ones_apply() -> None:
    catalog = Catalog()

    assert catalog.workflow_names() == ["bugfix", "development", "docs"]
    assert catalog.schema_ids() == [
        *(f"dev/{name}@1" for name in ("change", "plan", "review", "spec", "verify")),
        "devflow/report@1",
    ]
    assert catalog.config() == RepositoryConfig()
    assert all(catalog.workflow(name) for name in catalog.workflow_names())


def test_a_repositorys_workflow_hides_the_built_in_one_of_its_name_under_another_hash() -> None:
    own = WORKFLOW.replace("Write the documentation", "Write well", 1)
    catalog = Catalog({".devflow/workflows/docs.yaml": own.encode()})

    assert catalog.workflow("docs").phases[0].title == "Write well"
    assert content_hash(catalog.workflow("docs")) != content_hash(Catalog().workflow("docs"))


def test_a_repositorys_personas_come_first_and_hide_the_built_in_ones_of_their_name() -> None:
    files = {
        ".devflow/personas/zed.yaml": PERSONA.replace("name: writer", "name: zed").encode(),
        ".devflow/personas/writer.yaml": PERSONA.replace("gpt-5-mini", "own-model").encode(),
    }

    names = [persona.name for persona in Catalog(files).personas()]

    assert names[:2] == ["writer", "zed"]
    assert len(names) == 13
    assert Catalog(files).persona("writer").model == "own-model"


def test_a_repositorys_schema_replaces_its_id_and_a_new_version_stands_beside_it() -> None:
    replaced = json.loads(SCHEMA) | {"title": "Ours"}
    second = json.loads(SCHEMA) | {"$id": "dev/spec@2"}
    path = ".devflow/schemas/dev/spec.json"

    assert Catalog({path: json.dumps(replaced).encode()}).schema("dev/spec@1")["title"] == "Ours"
    both = Catalog({path: json.dumps(second).encode()})
    assert {"dev/spec@1", "dev/spec@2"} <= set(both.schema_ids())


@pytest.mark.parametrize(
    ("method", "name", "code", "close"),
    [
        ("workflow", "developmnt", "workflow_not_found", "development"),
        ("persona", "wirter", "persona_not_found", "writer"),
        ("schema", "dev/spce@1", "schema_not_found", "dev/spec@1"),
    ],
)
def test_an_unknown_name_gets_the_close_one_and_the_list(method: str, name: str, code: str, close: str) -> None:
    error = refused(Catalog(), method, name)

    assert error.code == code
    assert f'did you mean "{close}"?' in error.message
    assert "there are:" in error.message


def test_a_workflow_that_names_a_schema_that_is_missing_is_refused_before_a_prompt_without_one() -> None:
    own = WORKFLOW.replace("dev/change@1", "dev/change@7")

    error = refused(Catalog({".devflow/workflows/docs.yaml": own.encode()}), "workflow", "docs")

    assert error.code == "schema_not_found"
    assert "dev/change@7" in error.message


def test_a_workflow_that_asks_of_its_artifact_what_the_schema_has_no_room_for_is_refused() -> None:
    own = WORKFLOW.replace("schema: dev/review@1", "schema: dev/spec@1")

    error = refused(Catalog({".devflow/workflows/docs.yaml": own.encode()}), "workflow", "docs")

    assert error.code == "config_invalid"
    assert "dev/spec@1 has no verdict changes_requested" in error.message


def test_a_file_whose_name_and_content_disagree_is_refused() -> None:
    error = refused(Catalog({".devflow/workflows/mine.yaml": WORKFLOW.encode()}), "workflow", "mine")

    assert error.code == "config_invalid"
    assert '.devflow/workflows/mine.yaml:1: name: found "docs", allowed: mine' in error.message


def test_a_broken_persona_is_told_although_another_would_do() -> None:
    catalog = Catalog({".devflow/personas/x.yaml": b"name: x\n"})

    with pytest.raises(DevflowError, match=r"\.devflow/personas/x\.yaml:1: version: found nothing"):
        catalog.personas()


def test_prices_come_from_the_engine_then_the_operator_then_the_repository() -> None:
    files = {".github/devflow.yml": b"prices: {b: {input: 5, output: 5}}"}
    operator = b"models: {a: {input: 2, output: 2}, b: {input: 2, output: 2}}"

    prices = Catalog(files).prices(operator, "p.yaml").prices

    assert (prices["a"].input, prices["b"].input) == (2, 5)
    assert "gpt-5" in prices


def test_the_schemas_of_a_workflow_are_those_of_its_artifacts() -> None:
    catalog = Catalog()

    assert sorted(catalog.schemas_of(catalog.workflow("docs"))) == ["dev/change@1", "dev/review@1"]


def test_only_files_in_their_place_belong_to_the_catalog() -> None:
    assert is_catalog_path(".github/devflow.yml")
    assert all(is_catalog_path(path) for path in builtin_files())
    for path in (".devflow/workflows/a/b.yaml", ".devflow/workflows/a.yml", "devflow.yml", ".devflow/runs/x/spec.json"):
        assert not is_catalog_path(path)


def test_the_configuration_lies_where_the_operator_says_and_nowhere_else() -> None:
    files = {".github/devflow.yml": b"budget_usd: 1\n", ".github/bots/devflow.yml": b"budget_usd: 2\n"}
    assert Catalog(files).config().budget_usd == 1
    elsewhere = Catalog(files, config_path=".github/bots/devflow.yml")
    assert elsewhere.config().budget_usd == 2
    broken = {".github/bots/devflow.yml": b"budget: 2\n"}
    with pytest.raises(DevflowError, match=r"\.github/bots/devflow\.yml:1: budget"):
        Catalog(broken, config_path=".github/bots/devflow.yml").config()
