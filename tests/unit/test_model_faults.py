"""What a status code means: called by its code, tried again only where that may help, and never with the key in it."""

from datetime import UTC, datetime

import pytest

from engine.agents.faults import ModelFault, clean, fault_of_status, retry_after
from engine.agents.turn import RetryPolicy

NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after": "Fri, 20 Nov 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Fri, 20 Nov 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after-ms": "x", "retry-after": "2"}, 2.0),
    ],
)
def test_the_wait_is_what_the_server_asks_for(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, NOW) == seconds


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (400, {"code": "context_length_exceeded"}, "context_overflow"),
        (400, {"message": "This model's maximum context length is 8192 tokens"}, "context_overflow"),
        (400, {"message": "prompt is too long: 210000 tokens > 200000 maximum"}, "context_overflow"),
        (400, {"type": "exceed_context_size_error"}, "context_overflow"),
        (400, {"message": "The input token count (1) exceeds the maximum number of tokens (2)"}, "context_overflow"),
        (413, {}, "context_overflow"),
        (400, {"code": "content_filter", "message": "blocked"}, "agent_failed"),
        (400, {"message": "tools are not supported"}, "backend_unavailable"),
        (401, {}, "backend_unavailable"),
        (402, {}, "backend_unavailable"),
        (403, {}, "backend_unavailable"),
        (429, {"message": "slow down, the context window of requests is full"}, "backend_unavailable"),
        (500, {}, "backend_unavailable"),
    ],
)
def test_each_status_has_its_code(status: int, error: dict[str, str], code: str) -> None:
    assert fault_of_status(status, {}, error).code == code


@pytest.mark.parametrize(
    ("status", "headers", "error", "retried"),
    [
        (400, {}, {}, False),
        (401, {}, {}, False),
        (403, {}, {}, False),
        (408, {}, {}, True),
        (429, {}, {}, True),
        (429, {}, {"code": "insufficient_quota"}, False),
        (429, {"x-should-retry": "false"}, {}, False),
        (400, {"x-should-retry": "true"}, {}, True),
        (500, {}, {}, True),
        (503, {"x-should-retry": "false"}, {}, False),
    ],
)
def test_a_status_is_tried_again_only_where_that_may_help(
    status: int, headers: dict[str, str], error: dict[str, str], *, retried: bool
) -> None:
    assert fault_of_status(status, headers, error).retry is retried


@pytest.mark.parametrize(("status", "billed"), [(400, False), (429, False), (500, False), (502, True), (504, True)])
def test_a_gateway_that_gave_up_may_have_cost_money(status: int, *, billed: bool) -> None:
    assert fault_of_status(status, {}, {}).may_be_billed is billed


def test_the_wait_grows_up_to_a_bound_and_spreads() -> None:
    policy = RetryPolicy(max_attempts=20, initial_delay=1.0, longest_wait=8.0)
    fault = ModelFault("backend_unavailable", "busy", retry=True)

    waits = [policy.wait(fault, tries) for tries in (1, 2, 3, 4, 10)]

    for wait, bound in zip(waits, [1.0, 2.0, 4.0, 8.0, 8.0], strict=True):
        assert wait is not None
        assert bound / 2 <= wait <= bound


def test_it_gives_up_after_the_last_try_and_where_the_wait_is_too_long_or_trying_again_is_useless() -> None:
    policy = RetryPolicy(max_attempts=3)

    assert policy.wait(ModelFault("backend_unavailable", "", retry=True), 3) is None
    assert policy.wait(ModelFault("backend_unavailable", "", retry=True, retry_after=61), 1) is None
    assert policy.wait(ModelFault("backend_unavailable", "", retry=False), 1) is None
    assert policy.wait(ModelFault("backend_unavailable", "", retry=True, retry_after=60), 1) == 60


def test_a_servers_text_is_shown_without_the_key_whole_or_masked() -> None:
    secret = "a-very-local-key"

    shown = clean(f"bad key {secret},\n also sk-proj-abc***xyz and \x1b[31mred", secret)

    assert shown == "bad key [key], also [key] and [31mred"
