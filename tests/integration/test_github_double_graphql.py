"""The double's GraphQL: ready for review, minimising, reactions to reviews; refusals in a 200 as GitHub has them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.github_double import GitHubDouble, Pull, Repository

MINIMIZE = """mutation($input: MinimizeCommentInput!) {
  minimizeComment(input: $input) { minimizedComment { isMinimized minimizedReason ... on Node { id } } }
}"""
REACT = """mutation($input: AddReactionInput!) {
  addReaction(input: $input) { reaction { content user { login } } subject { id __typename } }
}"""
READY = """mutation($input: MarkPullRequestReadyForReviewInput!) {
  markPullRequestReadyForReview(input: $input) { pullRequest { number isDraft } }
}"""


@pytest.fixture
def double(tmp_path: Path) -> Iterator[GitHubDouble]:
    with GitHubDouble(tmp_path) as running:
        yield running


@pytest.fixture
def repository(double: GitHubDouble) -> Repository:
    return double.repository("octo/billsplit", private=True)


@pytest.fixture
def pull(double: GitHubDouble, repository: Repository) -> Pull:
    repository.commit("topic", {"a.txt": "1"}, by=double.person("ada"))
    return repository.open_pull(double.app.bot, "Round", "topic", draft=True)


def ask(double: GitHubDouble, token: str | None, query: str, **variables: Any) -> dict[str, Any]:
    """Send a query and return the body of the 200 that every query gets."""
    headers = {} if token is None else {"Authorization": f"bearer {token}"}
    body = {"query": query, "variables": variables}
    answer = requests.post(double.graphql_url, json=body, headers=headers, timeout=60)
    assert answer.status_code == 200
    parsed: dict[str, Any] = answer.json()
    return parsed


def test_pull_request_is_marked_ready(double: GitHubDouble, repository: Repository, pull: Pull) -> None:
    answer = ask(double, double.token(repository).text, READY, input={"pullRequestId": pull.node_id})

    assert answer == {"data": {"markPullRequestReadyForReview": {"pullRequest": {"number": 1, "isDraft": False}}}}
    assert not pull.draft
    assert double.deliveries[-1].action == "ready_for_review"


def test_comment_is_minimised_and_says_so(double: GitHubDouble, repository: Repository, pull: Pull) -> None:
    comment = pull.comment(double.app.bot, "a gate")
    token = double.token(repository).text

    answer = ask(double, token, MINIMIZE, input={"subjectId": comment.node_id, "classifier": "OUTDATED"})
    seen = ask(
        double,
        token,
        "query($id: ID!) { node(id: $id) { __typename ... on IssueComment { databaseId isMinimized } } }",
        id=comment.node_id,
    )

    minimized = {"isMinimized": True, "minimizedReason": "outdated", "id": comment.node_id}
    assert answer["data"]["minimizeComment"]["minimizedComment"] == minimized
    assert comment.minimized_reason == "outdated"
    assert seen["data"]["node"] == {"__typename": "IssueComment", "databaseId": comment.id, "isMinimized": True}


def test_review_is_reacted_to_once(double: GitHubDouble, repository: Repository, pull: Pull) -> None:
    review = pull.review(double.person("ada"), "approve")
    token = double.token(repository).text

    for _ in range(2):
        answer = ask(double, token, REACT, input={"subjectId": review.node_id, "content": "ROCKET"})

    assert answer["data"]["addReaction"] == {
        "reaction": {"content": "ROCKET", "user": {"login": "devflow"}},
        "subject": {"id": review.node_id, "__typename": "PullRequestReview"},
    }
    assert [each.content for each in review.reactions] == ["rocket"]
    inline = f'{{ node(id: "{review.node_id}") {{ ... on Reactable {{ reactions(first: 10) {{ totalCount }} }} }} }}'
    assert ask(double, token, inline) == {"data": {"node": {"reactions": {"totalCount": 1}}}}


def test_unknown_node_is_not_found_in_a_200(double: GitHubDouble, repository: Repository) -> None:
    answer = ask(double, double.token(repository).text, READY, input={"pullRequestId": "PR_nothing"})

    assert answer["data"] == {"markPullRequestReadyForReview": None}
    (error,) = answer["errors"]
    assert (error["type"], error["path"]) == ("NOT_FOUND", ["markPullRequestReadyForReview"])
    assert error["message"] == "Could not resolve to a node with the global id of 'PR_nothing'"


def test_missing_permission_is_forbidden_in_a_200(double: GitHubDouble, repository: Repository, pull: Pull) -> None:
    token = double.token(repository, pull_requests="read").text

    (error,) = ask(double, token, READY, input={"pullRequestId": pull.node_id})["errors"]

    assert (error["type"], error["message"]) == ("FORBIDDEN", "Resource not accessible by integration")
    assert pull.draft


def test_node_of_another_repository_is_not_found(double: GitHubDouble, repository: Repository, pull: Pull) -> None:
    token = double.token(double.repository("octo/other")).text

    (error,) = ask(double, token, READY, input={"pullRequestId": pull.node_id})["errors"]

    assert error["type"] == "NOT_FOUND"


@pytest.mark.parametrize(
    ("query", "variables", "says"),
    [
        ("query { nonsense { id } }", {}, "Field 'nonsense' doesn't exist on type 'Query'"),
        ("query { viewer { shoe } }", {}, "Field 'shoe' doesn't exist on type"),
        ("query { viewer }", {}, "must have selections"),
        ("query { viewer { login }", {}, "Unexpected end of document"),
        (MINIMIZE, {"input": {"subjectId": "x", "classifier": "DULL"}}, 'Expected "DULL" to be one of'),
        (MINIMIZE, {"input": {"subjectId": "x"}}, "Expected value to not be null"),
        (MINIMIZE, {"input": {"subjectId": "x", "classifier": "SPAM", "why": 1}}, "Field is not defined"),
        (MINIMIZE, {}, "was provided invalid value"),
    ],
)
def test_query_that_is_wrong_gets_errors_and_no_data(
    double: GitHubDouble, repository: Repository, query: str, variables: dict[str, Any], says: str
) -> None:
    answer = ask(double, double.token(repository).text, query, **variables)

    assert answer.keys() == {"errors"}
    assert says in answer["errors"][0]["message"]


def test_nobody_may_ask_without_a_token(double: GitHubDouble) -> None:
    answer = requests.post(double.graphql_url, json={"query": "{ viewer { login } }"}, timeout=60)

    assert answer.status_code == 401
