"""Whatever a call to GitHub runs into becomes one of four faults, without a secret in it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from github import GithubException
from github.Requester import Requester
from hypothesis import given
from hypothesis import strategies as st

from app.github.faults import Gone, HostFault, Refused, RetryLater, Unauthorised, graphql_fault, translate
from app.github.reading import Unreadable
from app.github.refusals import why_ended

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
RESET = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int((NOW + timedelta(minutes=20)).timestamp()))}
PLENTY = {"x-ratelimit-remaining": "4999", "x-ratelimit-reset": str(int((NOW + timedelta(minutes=20)).timestamp()))}
SECONDARY = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."


def fault(status: int, message: str = "", headers: dict[str, str] | None = None, **more: Any) -> HostFault:
    """What a refused answer becomes, made into an exception as PyGithub does it."""
    raised = Requester.createException(status, headers or {}, {"message": message, **more})
    return translate(raised, NOW, "GET /repos/octo/bills/issues/5")


@pytest.mark.parametrize(
    ("status", "message", "headers", "wait"),
    [
        (403, "API rate limit exceeded for installation ID 1.", RESET, 20 * 60 + 1),
        (429, "API rate limit exceeded for installation ID 1.", RESET, 20 * 60 + 1),
        (403, "whatever it says", RESET, 20 * 60 + 1),
        (403, SECONDARY, {"retry-after": "90"}, 90),
        (403, SECONDARY, PLENTY, 60),
        (429, SECONDARY, {}, 60),
        (403, SECONDARY, {"retry-after": "soon"}, 60),
        (403, SECONDARY, {"retry-after": "99999999999999"}, 60),
        (403, SECONDARY, {"retry-after": "9999999999"}, 24 * 3600),
        (403, SECONDARY, {"retry-after": "0"}, 1),
        (429, "", {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1"}, 1),
        (503, "busy", {"retry-after": "30"}, 30),
    ],
)
def test_a_rate_limit_names_the_time_at_which_it_is_over(
    status: int, message: str, headers: dict[str, str], wait: int
) -> None:
    found = fault(status, message, headers)

    assert isinstance(found, RetryLater)
    assert found.at == NOW + timedelta(seconds=wait)


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408])
def test_a_server_that_fails_is_asked_again_whenever_the_caller_likes(status: int) -> None:
    found = fault(status, "Server Error")

    assert isinstance(found, RetryLater)
    assert found.at is None


@pytest.mark.parametrize(
    "raised",
    [
        requests.ConnectionError("refused"),
        requests.Timeout("slow"),
        requests.exceptions.ChunkedEncodingError("cut"),
        requests.exceptions.SSLError("no"),
        Unreadable("id is not a whole number"),
        ValueError("broken JSON"),
        AttributeError("'list' object has no attribute 'get'"),
        GithubException(502, {"data": "<html>Unicorn!</html>"}, {}),
        GithubException(500, "text", None),
        GithubException(200, None, None),
    ],
)
def test_what_says_nothing_about_the_call_is_tried_again(raised: Exception) -> None:
    found = translate(raised, NOW, "GET /app")

    if isinstance(raised, GithubException) and raised.status == 200:
        assert isinstance(found, Refused)
    else:
        assert isinstance(found, RetryLater)
    assert "Unicorn" not in str(found)


def test_what_is_not_there_is_gone() -> None:
    assert isinstance(fault(404, "Not Found"), Gone)
    assert isinstance(fault(410, "This issue was deleted"), Gone)
    assert isinstance(fault(451, "Repository access blocked"), Gone)
    assert isinstance(fault(403, "This installation has been suspended"), Gone)


def test_a_credential_that_is_not_taken_is_told_apart() -> None:
    assert isinstance(fault(401, "Bad credentials"), Unauthorised)
    assert isinstance(fault(401, "A JSON web token could not be decoded"), Unauthorised)


def test_a_missing_permission_is_no_rate_limit() -> None:
    found = fault(403, "Resource not accessible by integration", PLENTY)

    assert isinstance(found, Refused)
    assert (found.status, found.message) == (403, "Resource not accessible by integration")


def test_a_refusal_carries_githubs_own_errors() -> None:
    found = fault(
        422,
        "Validation Failed",
        errors=[
            {"resource": "PullRequest", "code": "custom", "message": "A pull request already exists for octo:x."},
            {"resource": "PullRequest", "field": "head", "code": "invalid"},
            "a bare sentence",
            7,
        ],
    )

    assert isinstance(found, Refused)
    assert found.errors == (
        "PullRequest: A pull request already exists for octo:x.",
        "PullRequest.head: invalid",
        "a bare sentence",
    )
    assert str(found).startswith("422: Validation Failed; PullRequest: A pull request already exists")


@pytest.mark.parametrize(
    ("ended_by", "code", "hint"),
    [
        (fault(403, "Resource not accessible by integration"), "permission_missing", "`permissions:` of the workflow"),
        (fault(403, "Repository was archived so is read-only."), "permission_denied", "a rule of the repository"),
        (fault(422, "Validation Failed"), "permission_denied", "a rule of the repository"),
        (fault(404, "Not Found"), "repository_not_found", "the token is for this repository"),
        (fault(502), "github_unavailable", "tried again"),
    ],
)
def test_work_that_a_fault_has_ended_says_what_to_do(ended_by: HostFault, code: str, hint: str) -> None:
    error = why_ended(ended_by)

    assert (error.code, hint in error.recovery_hint) == (code, True), error.recovery_hint
    assert code == "permission_missing" or str(ended_by) in error.message


@pytest.mark.parametrize(
    ("errors", "kind"),
    [
        ([{"type": "NOT_FOUND", "message": "Could not resolve to a node"}], Gone),
        ([{"type": "FORBIDDEN", "message": "Resource not accessible by integration"}], Refused),
        ([{"type": "UNPROCESSABLE", "message": "Pull request is not a draft"}], Refused),
        ([{"type": "RATE_LIMITED", "message": "API rate limit exceeded"}], RetryLater),
        ([{"message": "Something went wrong while executing your query"}], RetryLater),
        (["odd"], RetryLater),
        ([], RetryLater),
    ],
)
def test_errors_of_graphql_become_the_same_faults(errors: list[Any], kind: type[HostFault]) -> None:
    assert isinstance(graphql_fault(errors, NOW, "minimizeComment", {}), kind)


@pytest.mark.parametrize(
    "token",
    ["ghs_16C7e42F292c6912E7710c838347Ae178B4a", "github_pat_11ABCDEFG0abcdefghijk", "eyJhbGciOi.eyJpc3MiOi.c2lnbmF0"],
)
def test_a_token_that_github_repeats_is_not_shown(token: str) -> None:
    found = fault(422, f"Cannot use {token} here", errors=[f"{token} is wrong"])

    assert token not in str(found)
    assert token not in repr(found)


@given(
    status=st.integers(300, 599),
    headers=st.dictionaries(
        st.sampled_from(["retry-after", "x-ratelimit-remaining", "x-ratelimit-reset"]), st.text() | st.just("0")
    ),
    data=st.none() | st.text() | st.dictionaries(st.sampled_from(["message", "errors"]), st.text() | st.integers()),
)
def test_no_answer_makes_it_raise(status: int, headers: dict[str, str], data: Any) -> None:
    found = translate(GithubException(status, data, headers), NOW, "GET /app")

    assert isinstance(found, HostFault)
    if isinstance(found, RetryLater) and found.at is not None:
        assert NOW < found.at <= NOW + timedelta(days=1)
