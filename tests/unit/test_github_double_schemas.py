"""The check of the double against GitHub's schemas finds what is missing, of the wrong type, or unknown."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.github_double.gate import Request
from tests.github_double.schemas import endpoint_of, problems_of_call, problems_of_webhook

ROOT = Path(__file__).parents[2]
REACTIONS = "/repos/{owner}/{repo}/issues/{issue_number}/reactions"
GOOD = {"id": 1, "node_id": "REA_1", "user": None, "content": "eyes", "created_at": "2026-11-20T10:00:00Z"}


def call(body: Any, answer: Any, status: int = 201, template: str = REACTIONS) -> Request:
    return Request("POST", "/x", "", body, {}, template=template, done=status, answer=json.dumps(answer).encode())


def test_good_call_has_no_problem() -> None:
    assert problems_of_call(call({"content": "eyes"}, GOOD)) == []


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (call({"content": "eyes"}, {"id": 1}), "answer: node_id: Field required"),
        (call({"content": "eyes"}, GOOD | {"id": "1"}), "answer: id: Input should be a valid integer"),
        (call({"content": "eyes"}, GOOD | {"content": "shrug"}), "answer: content: Input should be '+1'"),
        (call({"content": "eyes", "colour": "red"}, GOOD), "request: colour: Extra inputs are not permitted"),
        (call({"content": "shrug"}, GOOD), "request: content: Input should be '+1'"),
        (call({}, GOOD), "request: content: Field required"),
        (call({}, GOOD, template="/repos/{owner}/{repo}/feelings"), "GitHub has no such endpoint"),
        (call({"content": "shrug"}, {"errors": []}, 422), "answer: message: Field required"),
    ],
)
def test_faulty_call_is_found(request_: Request, says: str) -> None:
    assert any(problem.startswith(says) for problem in problems_of_call(request_)), problems_of_call(request_)


def test_refused_request_is_not_held_against_the_schema() -> None:
    refusal = {"message": "Validation Failed", "documentation_url": "https://docs.github.com/rest"}

    assert problems_of_call(call({"content": "shrug"}, refusal, 422)) == []


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("state=open&since=2026-11-20T10:00:00Z&per_page=100&labels=a%2Cb", []),
        ("", []),
        ("state=ajar", ["query: state: Input should be 'open', 'closed' or 'all'"]),
        ("per_page=many", ["query: per_page: Input should be a valid integer"]),
        ("colour=red", ["query: colour: the endpoint has no such parameter"]),
    ],
)
def test_query_is_held_against_the_parameters_of_the_endpoint(query: str, says: list[str]) -> None:
    request = Request("GET", "/x", query, None, {}, template="/repos/{owner}/{repo}/issues", done=200, answer=b"[]")

    problems = problems_of_call(request)

    assert [any(problem.startswith(each) for each in says) for problem in problems] == [True] * len(says)


def test_webhook_without_its_fields_is_found() -> None:
    body = json.dumps({"action": "labeled", "repository": {}, "sender": {}}).encode()

    problems = problems_of_webhook("issues", body)

    assert "issue: Field required" in problems[0]
    assert any(problem.startswith("sender.login") for problem in problems)
    assert problems_of_webhook("issues", b'{"action": "painted"}') == ["issues has no action painted"]
    assert problems_of_webhook("weather", b"{}") == ["GitHub has no such event"]


def test_double_itself_needs_no_development_dependency() -> None:
    code = "import sys, tests.github_double; print(sorted({'githubkit', 'pytest', 'httpx'} & set(sys.modules)))"

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_table_is_read_from_the_client() -> None:
    endpoint = endpoint_of("POST", "/repos/{owner}/{repo}/pulls")

    assert endpoint is not None
    assert (endpoint.takes, endpoint.gives) == ("ReposOwnerRepoPullsPostBody", "PullRequest")
    assert endpoint.refuses[422] == "ValidationError"
    asked = endpoint_of("GET", "/repos/{owner}/{repo}/contents/{path}")
    assert asked is not None
    assert asked.query == {"ref": "Missing[str]"}
