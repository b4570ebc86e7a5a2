"""The agent loop: look at the end of the conversation and do the next thing, until there is an outcome.

Because it only looks at what is stored, a resumed attempt goes on exactly where the last one stopped: calls that
have a result keep it, calls that never ran are run, and a turn that was the last one stays the last one.
"""

from collections.abc import Callable

from engine.agents.base import ChatModel, Limits, Message, Outcome, Reply, Tools
from engine.agents.completion import calls_of, parses_as_object
from engine.agents.conversation import Conversation
from engine.agents.turn import RetryPolicy, take_turn
from engine.domain.errors import DevflowError
from engine.last_writes import best_effort
from engine.metering import Meter

SUBMIT = "submit_artifact"
CUT_OFF_NOTE = "Your reply was cut off at the output limit. Go on in smaller steps: one short tool call at a time."


async def run_attempt(
    model: ChatModel,
    tools: Tools,
    conversation: Conversation,
    meter: Meter,
    limits: Limits,
    retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - immutable
    before_turn: Callable[[], None] = lambda: None,
) -> Outcome:
    """Let the model work on the prompt it was sent last, until it submits, stops or reaches a limit.

    Raises a `DevflowError` where the model or its budget fails, and whatever `before_turn` raises to stop the work
    at a safe point. A cancelled attempt starts no further call.
    """
    await conversation.begin()
    try:
        outcome = await _work(model, tools, conversation, meter, limits, retry, before_turn)
    except BaseException:
        await best_effort(conversation.rest())
        raise
    await conversation.rest()
    return outcome


async def _work(
    model: ChatModel,
    tools: Tools,
    conversation: Conversation,
    meter: Meter,
    limits: Limits,
    retry: RetryPolicy,
    before_turn: Callable[[], None],
) -> Outcome:
    if (submitted := await _submitted_before(tools, conversation)) is not None:
        return submitted
    while True:
        for call in conversation.unanswered:
            await conversation.start_call(call)
            result = await tools.call(call.name, call.arguments)
            await conversation.end_call(call, result)
            if result.submission is not None:
                return Outcome(result.submission, "submitted")
        turn = conversation.last_turn
        if turn is not None and not calls_of(turn):
            return Outcome(None, "stopped", {"text": turn.get("content")})
        if turns_since_prompt(conversation.messages) >= limits.max_turns:
            return Outcome(None, "max_turns", {"max_turns": limits.max_turns})
        before_turn()
        told = conversation.messages[-1].get("content") == CUT_OFF_NOTE
        reply = await take_turn(
            model, conversation, meter, tools.specs, limits.max_output_tokens, retry, _answer_to_cut_off
        )
        if reply.finish_reason == "refusal":
            raise DevflowError("agent_failed", f"the model refused: {reply.text[:300]}")
        if told and _cut_off(reply):
            return Outcome(None, "cut_off", {"max_output_tokens": limits.max_output_tokens})


def turns_since_prompt(messages: list[Message]) -> int:
    """Return how many turns the model has taken since it was last sent a prompt."""
    turns = 0
    for message in reversed(messages):
        if message["role"] == "user" and message["content"] != CUT_OFF_NOTE:
            break
        turns += message["role"] == "assistant"
    return turns


async def _submitted_before(tools: Tools, conversation: Conversation) -> Outcome | None:
    """Return the submission that an earlier process stored and did not live to hand on."""
    unanswered = {call.id for call in conversation.unanswered}
    for call in calls_of(conversation.last_turn or {}):
        if call.name == SUBMIT and call.id not in unanswered:
            result = await tools.call(call.name, call.arguments)  # it only reads its arguments
            if result.submission is not None:
                return Outcome(result.submission, "submitted")
    return None


def _cut_off(reply: Reply) -> bool:
    return reply.finish_reason == "length" and not any(parses_as_object(call.arguments) for call in reply.tool_calls)


def _answer_to_cut_off(reply: Reply) -> tuple[Message, ...]:
    if not _cut_off(reply):
        return ()
    if not reply.tool_calls:
        return ({"role": "user", "content": CUT_OFF_NOTE},)
    return tuple({"role": "tool", "tool_call_id": call.id, "content": CUT_OFF_NOTE} for call in reply.tool_calls)
