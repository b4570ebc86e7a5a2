"""From a binding to a model that can be called: which backends this process has, and what their calls cost."""

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING

from engine.agents.base import ChatModel
from engine.agents.replay_agent import Cassette, ReplayModel
from engine.catalog import Catalog
from engine.domain.binding import Binding
from engine.domain.errors import DevflowError
from engine.domain.persona import Backend
from engine.domain.pricing import Price, PriceTable
from engine.runner.plan import Role
from engine.settings import Settings

if TYPE_CHECKING:
    from engine.agents.openai_agent import OpenAIModel


def availability(settings: Settings, cassette: tuple[str, bytes] | None) -> dict[str, bool | str]:
    """Return for each backend True, or why this process cannot use it; with a cassette nothing but `replay` is used."""
    if cassette is not None:
        reason = "a cassette was given, so only the recorded agent is used"
        return {Backend.REPLAY: True, Backend.OPENAI: reason, Backend.COMMAND: reason}
    openai: bool | str = bool(settings.openai_api_key or settings.openai_base_url)
    return {
        Backend.OPENAI: openai or "neither OPENAI_API_KEY nor OPENAI_BASE_URL is set",
        Backend.REPLAY: "no cassette was given",
        Backend.COMMAND: "this version runs no command-line agents",
    }


def load_prices(settings: Settings, repository_prices: Mapping[str, Price]) -> PriceTable:
    """Return the built-in prices, with the operator's and the repository's own on top; raises `config_invalid`."""
    data = None
    if settings.price_file is not None:
        try:
            data = settings.price_file.read_bytes()
        except OSError as error:
            raise DevflowError("config_invalid", f"cannot read the price file: {error}") from None
    return Catalog().prices(data, str(settings.price_file)).merged(repository_prices)


async def served_models(settings: Settings, cassette: tuple[str, bytes] | None) -> set[str] | None:
    """Return the models that the server lists, so that personas it can serve are preferred; None where it says none.

    Raises `backend_unavailable` where the server cannot be reached or refuses us.
    """
    if availability(settings, cassette)[Backend.OPENAI] is not True:
        return None
    model = _openai(settings, "")
    try:
        return {name.removeprefix("models/") for name in await model.served()} or None
    finally:
        await model.close()


async def check_models(
    settings: Settings, bound: list[Binding], budget: Decimal | None, repository_prices: Mapping[str, Price]
) -> None:
    """Raise `price_unknown` for a model without price under a cap, `backend_unavailable` for one that is not there."""
    prices = load_prices(settings, repository_prices)
    for name in sorted({binding.model for binding in bound if binding.backend == Backend.OPENAI}):
        if budget is not None and prices.find(name) is None:
            raise DevflowError(
                "price_unknown", f"model {name} has no known price, and the run has a cap of {budget} USD"
            )
        model = _openai(settings, name)
        try:
            await model.check()
        except DevflowError as error:
            if error.code != "backend_unavailable":
                raise
            hint = "mend OPENAI_BASE_URL or OPENAI_API_KEY, or name another model with --model; then run again"
            raise DevflowError(error.code, error.message, recovery_hint=hint) from error
        finally:
            await model.close()


def make_model(settings: Settings, role: Role, cassette: Cassette | None, attempt: tuple[str, int, int]) -> ChatModel:
    """Return the model of a role for one attempt, given as (phase, round, attempt)."""
    if role.backend == Backend.REPLAY:
        if cassette is None:
            raise DevflowError("run_metadata_missing", "the run has a recorded agent but no cassette")
        return ReplayModel(cassette).for_attempt(*attempt)
    if role.backend == Backend.OPENAI:
        if not (settings.openai_api_key or settings.openai_base_url):
            raise DevflowError("backend_unavailable", "neither OPENAI_API_KEY nor OPENAI_BASE_URL is set")
        return _openai(settings, role.model)
    raise DevflowError("backend_unavailable", f"this version cannot run backend {role.backend}")


def _openai(settings: Settings, name: str) -> "OpenAIModel":
    # the openai package takes longer to import than most commands take to run
    from engine.agents.openai_agent import OpenAIModel

    return OpenAIModel(name, api_key=settings.openai_api_key, base_url=settings.openai_base_url)
