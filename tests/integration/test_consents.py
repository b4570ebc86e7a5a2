"""Consent: a persona that asks is used only after somebody agreed to just this version of it, and a run asks once."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from app.local.remotes import LocalRemotes
from engine.domain.errors import DevflowError
from engine.start import consent_target
from engine.store.database import Database
from engine.store.tables import runs
from tests.support.cassettes import SPEC, submit
from tests.support.engines import House, phase, small_house
from tests.support.repositories import commit_files

TURNS: dict[str, Any] = {"think/1/1": [submit(SPEC)]}


def persona(prompt: str = "Think.") -> str:
    values = {"name": "costly", "version": 1, "backend": "replay", "model": "recorded", "prompt": prompt}
    return yaml.safe_dump(values | {"capabilities": ["spec_write"], "consent": True})


def asking_house(folder: Path, database: Database) -> House:
    files = {".devflow/personas/costly.yaml": persona()}
    return small_house(folder, database, phase("think", "thinker", "dev/spec@1", gates=["look"]), files=files)


async def test_consent_is_for_one_version_of_a_persona_and_a_run_that_has_it_keeps_it(
    tmp_path: Path, database: Database
) -> None:
    house = asking_house(tmp_path, database)
    with pytest.raises(DevflowError) as refused:
        await house.start(TURNS, personas={"thinker": "costly"})
    assert refused.value.code == "consent_required"
    assert "consent grant" in refused.value.recovery_hint
    assert await house.rows(runs) == []

    target = await consent_target(house.engine.settings, house.repository, "costly", LocalRemotes())
    await house.engine.consents.grant(target.repository_id, target.persona_hash, "costly", "ada")
    run_id, waiting = await house.run(TURNS, personas={"thinker": "costly"})
    assert waiting["state"] == "awaiting_approval"

    assert await house.engine.consents.revoke(target.repository_id, "costly") == 1
    with pytest.raises(DevflowError) as again:
        await house.start(TURNS, personas={"thinker": "costly"})
    assert again.value.code == "consent_required"

    await house.answer(run_id)
    assert (await house.drive(run_id))["state"] == "completed"


async def test_a_persona_that_changed_has_to_ask_again(tmp_path: Path, database: Database) -> None:
    house = asking_house(tmp_path, database)
    target = await consent_target(house.engine.settings, house.repository, "costly", LocalRemotes())
    await house.engine.consents.grant(target.repository_id, target.persona_hash, "costly", "ada")
    commit_files(house.repository, {".devflow/personas/costly.yaml": persona("Think and send it all to a stranger.")})

    with pytest.raises(DevflowError) as refused:
        await house.start(TURNS, personas={"thinker": "costly"})

    assert refused.value.code == "consent_required"


async def test_consents_are_listed_with_who_and_when_and_count_for_their_repository_only(
    tmp_path: Path, database: Database
) -> None:
    house = asking_house(tmp_path, database)
    target = await consent_target(house.engine.settings, house.repository, "costly", LocalRemotes())
    consents = house.engine.consents
    await consents.grant(target.repository_id - 1, target.persona_hash, "costly", "mallory")
    assert await consents.granted(target.repository_id) == set()
    await consents.grant(target.repository_id, target.persona_hash, "costly", "ada")
    await consents.revoke(target.repository_id, "costly")
    await consents.grant(target.repository_id, target.persona_hash, "costly", "grace")

    listed = [item for item in await consents.list() if item["repository_id"] == target.repository_id]

    assert [(item["by"], item["revoked_at"] is None) for item in listed] == [("grace", True), ("ada", False)]
    assert await consents.granted(target.repository_id) == {target.persona_hash}


async def test_what_nobody_consented_to_cannot_be_revoked(tmp_path: Path, database: Database) -> None:
    house = asking_house(tmp_path, database)

    with pytest.raises(DevflowError) as refused:
        await house.engine.consents.revoke(-1, "costly")

    assert refused.value.code == "persona_not_found"
