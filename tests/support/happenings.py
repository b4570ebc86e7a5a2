"""What may happen on GitHub to an issue with a run, by the rows of the table in `app/inbound/midrun.py`."""

from collections.abc import Awaitable, Callable

from tests.github_double import Issue
from tests.github_double.administration import change_default_branch, delete_label, transfer, unarchive
from tests.support.stage import Stage

Happening = Callable[[Stage, Issue], Awaitable[None]]


async def labelled(play: Stage, issue: Issue) -> None:
    issue.label(play.ada, "devflow:small")


async def unlabelled(play: Stage, issue: Issue) -> None:
    issue.unlabel(play.ada, "devflow")


async def label_deleted(play: Stage, issue: Issue) -> None:
    delete_label(play.repository, "devflow:small", play.ada)


async def edited(play: Stage, issue: Issue) -> None:
    issue.edit(play.outsider, title="Something else", body="Something else.")


async def closed(play: Stage, issue: Issue) -> None:
    issue.close(play.outsider)


async def reopened(play: Stage, issue: Issue) -> None:
    # both are under way when the first is handled, so that the issue is open by then
    play.github.hold()
    issue.close(play.ada)
    issue.reopen(play.ada)
    play.github.release()


async def deleted(play: Stage, issue: Issue) -> None:
    issue.delete(play.ada)


async def issue_transferred(play: Stage, issue: Issue) -> None:
    issue.transfer(play.ada, play.github.repository(f"octo/other-{issue.id}", install=False))


async def opened(play: Stage, issue: Issue) -> None:
    play.issue("Another one")


async def answered(play: Stage, issue: Issue) -> None:
    issue.comment(play.ada, "/approve")


async def paused(play: Stage, issue: Issue) -> None:
    issue.comment(play.ada, "/pause")


async def aborted(play: Stage, issue: Issue) -> None:
    issue.comment(play.ada, "/abort")


async def commented(play: Stage, issue: Issue) -> None:
    issue.comment(play.ada, "/status")
    issue.comment(play.outsider, "How nice.")


async def comment_edited(play: Stage, issue: Issue) -> None:
    comment = issue.comment(play.ada, "I think so.")
    issue.edit_comment(play.ada, comment, "/approve")


async def comment_deleted(play: Stage, issue: Issue) -> None:
    (status, *_) = play.ours(issue)
    issue.delete_comment(play.ada, status)


async def reviewed(play: Stage, issue: Issue) -> None:
    (await play.pull(issue)).review(play.ada, "approve")


async def review_dismissed(play: Stage, issue: Issue) -> None:
    pull = await play.pull(issue)
    review = pull.review(play.outsider, "approve")
    pull.edit_review(play.outsider, review, "/approve")
    pull.dismiss_review(play.ada, review)


async def pushed_beside(play: Stage, issue: Issue) -> None:
    play.repository.commit((await play.run(issue))["branch"], {"notes.txt": "Mine.\n"}, play.ada)


async def pushed_content(play: Stage, issue: Issue) -> None:
    run = await play.run(issue)
    path = f".devflow/runs/{run['run_id']}/spec.json"
    before = play.repository.read(run["branch"], path) or "{}"
    play.repository.commit(run["branch"], {path: before.replace("Change the constant", "Compute it")}, play.ada)


async def pushed_elsewhere(play: Stage, issue: Issue) -> None:
    play.repository.commit("main", {"more.txt": "More.\n"}, play.ada)
    play.repository.commit("feature", {"x": "y"}, play.ada)
    play.repository.delete_branch("feature", play.ada)
    play.repository.git.set_ref("refs/tags/v1", play.repository.head("main"))
    play.repository.refs_changed(play.ada)


async def branch_deleted(play: Stage, issue: Issue) -> None:
    play.repository.delete_branch((await play.run(issue))["branch"], play.ada)


async def pull_closed(play: Stage, issue: Issue) -> None:
    (await play.pull(issue)).close(play.ada)


async def pull_merged(play: Stage, issue: Issue) -> None:
    pull = await play.pull(issue)
    pull.ready_for_review(play.ada)
    pull.edit(play.ada, body="Closes nothing.")
    pull.merge(play.ada)


async def pull_reopened(play: Stage, issue: Issue) -> None:
    play.github.hold()
    pull = await play.pull(issue)
    pull.close(play.ada)
    pull.reopen(play.ada)
    play.github.release()


async def pull_drafted(play: Stage, issue: Issue) -> None:
    pull = await play.pull(issue)
    pull.ready_for_review(play.ada)
    pull.convert_to_draft(play.ada)


async def pull_edited(play: Stage, issue: Issue) -> None:
    pull = await play.pull(issue)
    play.repository.commit("next", {"next.txt": "Next.\n"}, play.ada)
    pull.change_base(play.ada, "next")
    pull.edit(play.ada, title="Mine", body="Mine.")


async def pull_labelled(play: Stage, issue: Issue) -> None:
    (await play.pull(issue)).label(play.ada, "devflow")


async def pull_tended(play: Stage, issue: Issue) -> None:
    (await play.pull(issue)).label(play.ada, "good first issue")
    play.repository.commit("feature", {"x": "y"}, play.ada)
    mine = play.repository.open_pull(play.ada, "Mine", "feature")
    mine.review(play.outsider, "approve")
    mine.close(play.ada)


async def uninstalled(play: Stage, issue: Issue) -> None:
    play.github.uninstall(play.repository)


async def suspended(play: Stage, issue: Issue) -> None:
    play.github.suspend(play.repository)


async def taken_from_the_app(play: Stage, issue: Issue) -> None:
    play.github.repository(f"{play.repository.owner.login}/stays")
    play.github.uninstall(play.repository)


async def installed(play: Stage, issue: Issue) -> None:
    play.github.repository(f"{play.repository.owner.login}/more-{issue.id}")


async def repository_deleted(play: Stage, issue: Issue) -> None:
    play.repository.delete(play.ada)


async def renamed(play: Stage, issue: Issue) -> None:
    play.repository.rename(f"{play.repository.owner.login}/replies", play.ada)
    play.repository.commit("trunk", {"trunk.txt": "New.\n"}, play.ada)
    change_default_branch(play.repository, "trunk", play.ada)


async def transferred(play: Stage, issue: Issue) -> None:
    to = play.github.repository("heirs/theirs").owner
    transfer(play.repository, to, play.ada)


async def transferred_away(play: Stage, issue: Issue) -> None:
    transfer(play.repository, play.github.person("nobody"), play.ada)


async def archived(play: Stage, issue: Issue) -> None:
    play.repository.archive(play.ada)


async def unarchived(play: Stage, issue: Issue) -> None:
    unarchive(play.repository, play.ada)


async def merely_told(play: Stage, issue: Issue) -> None:
    """What the double cannot do by itself: the webhook comes, and nothing is read of it but its action."""


HAPPENINGS: dict[str, tuple[Happening, ...]] = {
    "labelled": (labelled,),
    "unlabelled": (unlabelled,),
    "label_deleted": (label_deleted,),
    "edited": (edited,),
    "closed": (closed,),
    "reopened": (reopened,),
    "deleted": (deleted, issue_transferred),
    "tended": (merely_told,),
    "opened": (opened,),
    "answered": (answered,),
    "paused": (paused,),
    "aborted": (aborted,),
    "commented": (commented,),
    "comment_edited": (comment_edited,),
    "comment_deleted": (comment_deleted,),
    "reviewed": (reviewed,),
    "review_dismissed": (review_dismissed,),
    "pushed_beside": (pushed_beside,),
    "pushed_content": (pushed_content,),
    "pushed_elsewhere": (pushed_elsewhere,),
    "branch_deleted": (branch_deleted,),
    "pull_labelled": (pull_labelled,),
    "pull_closed": (pull_closed, pull_merged),
    "pull_reopened": (pull_reopened,),
    "pull_drafted": (pull_drafted,),
    "pull_edited": (pull_edited,),
    "pull_tended": (pull_tended,),
    "check_rerequested": (merely_told,),
    "checked": (merely_told,),
    "uninstalled": (uninstalled, suspended, taken_from_the_app),
    "installed": (installed,),
    "repository_deleted": (repository_deleted,),
    "renamed": (renamed,),
    "transferred": (transferred,),
    "archived": (archived,),
    "unarchived": (unarchived,),
}
# What happens to a whole repository; the last one stands in the sentence of a row.
ALONE = (uninstalled, suspended, taken_from_the_app, repository_deleted, archived, transferred_away)
