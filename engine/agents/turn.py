"""One turn of a model: reserve, ask, store the reply with its ledger row, and try again where that may help.

Stands between the loop and a `ChatModel`. Each try has a ledger row of its own, ended whatever happens: settled with
its reply, failed where the call never ran, unknown (and charged at its reservation) where nobody can tell.
"""

import asyncio
import json
import random
from collections.abc import Callable
from dataclasses import dataclass

from engine.agents.base import ChatModel, Message, Reply, ToolSpec
from engine.agents.conversation import Conversation
from engine.agents.faults import ModelFault
from engine.domain.errors import DevflowError
from engine.last_writes import best_effort
from engine.metering import Meter, Reservation

Notes = Callable[[Reply], tuple[Message, ...]]


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how patiently a model call is tried; times in seconds."""

    max_attempts: int = 5
    initial_delay: float = 0.5
    longest_wait: float = 60.0

    def wait(self, fault: ModelFault, tries: int) -> float | None:
        """Return how long to wait after the failed try number `tries` (from 1), or None to give up."""
        if not fault.retry or tries >= self.max_attempts:
            return None
        if fault.retry_after is not None:
            return fault.retry_after if fault.retry_after <= self.longest_wait else None
        delay: float = min(self.initial_delay * 2 ** (tries - 1), self.longest_wait)
        return delay * random.uniform(0.5, 1.0)  # noqa: S311 - spreads retries, hides nothing


async def take_turn(
    model: ChatModel,
    conversation: Conversation,
    meter: Meter,
    tools: list[ToolSpec],
    max_output_tokens: int,
    retry: RetryPolicy,
    notes: Notes,
) -> Reply:
    """Return the model's next turn, stored together with what `notes` answers to it.

    Raises `budget_exceeded` or `price_unknown` before a call, and after the last try whatever the server did wrong.
    """
    request_bytes = len(json.dumps([conversation.messages, tools], ensure_ascii=False).encode())
    tries = 0
    while True:
        tries += 1
        reservation = await meter.reserve(conversation.turn_count, request_bytes, max_output_tokens)
        try:
            reply = await model.complete(conversation.messages, tools, max_output_tokens)
            await conversation.record(reply, meter, reservation, notes(reply))
        except ModelFault as fault:
            await _end_without_reply(meter, reservation, fault)
            delay = retry.wait(fault, tries)
            if delay is None:
                raise _given_up(fault, tries, retry) from fault
        except BaseException as error:
            code = error.code if isinstance(error, DevflowError) else type(error).__name__
            await best_effort(meter.lose(reservation, code))
            raise
        else:
            return reply
        await asyncio.sleep(delay)


async def _end_without_reply(meter: Meter, reservation: Reservation, fault: ModelFault) -> None:
    if fault.usage is not None:
        await meter.settle_useless(reservation, fault.usage, fault.code, fault.request_id)
    elif fault.may_be_billed:
        await meter.lose(reservation, fault.code, fault.request_id)
    else:
        await meter.fail(reservation, fault.code, fault.request_id)


def _given_up(fault: ModelFault, tries: int, retry: RetryPolicy) -> DevflowError:
    if fault.retry_after is not None and fault.retry_after > retry.longest_wait:
        return DevflowError(fault.code, f"{fault.message}; it asks to wait {fault.retry_after:.0f} s")
    if tries > 1:
        return DevflowError(fault.code, f"{fault.message} (tried {tries} times)")
    return fault
