"""Reviews of pull requests and their comments on lines."""

from typing import Any

from tests.github_double.call import REPOSITORY, Answer, Call, route
from tests.github_double.records import Review
from tests.github_double.refusal import Refused, not_found
from tests.github_double.shapes import pulls

_ALL = REPOSITORY + "/pulls/{pull_number}/reviews"
_VERDICTS = {"APPROVE": "approve", "REQUEST_CHANGES": "request_changes", "COMMENT": "comment"}


@route("GET", _ALL, "pull_requests:read")
def list_reviews(call: Call) -> Any:
    """The reviews, oldest first."""
    return call.page([pulls.review(call.world, each) for each in call.pull().reviews])


@route("POST", _ALL, "pull_requests:write")
def create_review(call: Call) -> Any:
    """A submitted review."""
    verdict = _VERDICTS.get(call.needed("event"))
    if verdict is None:
        raise Refused(422, "Unprocessable Entity", ["Variable $event of type PullRequestReviewEvent was invalid"])
    comments = [(each["path"], each.get("line") or each.get("position") or 1, each["body"]) for each in
                call.body.get("comments") or []]  # fmt: skip
    made = call.pull().review(call.user, verdict, call.text("body") or "", call.text("commit_id"), comments)
    return Answer(200, pulls.review(call.world, made))


@route("GET", _ALL + "/{review_id}", "pull_requests:read")
def get_review(call: Call) -> Any:
    """One review."""
    return pulls.review(call.world, _review(call))


@route("PUT", _ALL + "/{review_id}/dismissals", "pull_requests:write")
def dismiss_review(call: Call) -> Any:
    """A review that counts no more."""
    review = _review(call)
    review.pull.dismiss_review(call.user, review, call.needed("message"))
    return pulls.review(call.world, review)


@route("GET", _ALL + "/{review_id}/comments", "pull_requests:read")
def list_review_comments(call: Call) -> Any:
    """The comments on lines of one review."""
    return call.page([pulls.review_comment(call.world, each, legacy=True) for each in _review(call).comments])


@route("GET", REPOSITORY + "/pulls/{pull_number}/comments", "pull_requests:read")
def list_pull_comments(call: Call) -> Any:
    """The comments on lines of all reviews."""
    rows = [comment for review in call.pull().reviews for comment in review.comments]
    return call.page([pulls.review_comment(call.world, each) for each in rows])


def _review(call: Call) -> Review:
    wanted = call.number("review_id")
    for each in call.pull().reviews:
        if each.id == wanted:
            return each
    raise not_found()
