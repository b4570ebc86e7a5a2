"""A label that starts runs, put on a pull request: it starts nothing there; who could start a run is told."""

from app.github.events import PullLabeled
from app.github.shapes import IssueTarget
from app.inbound.config import is_ours, read_file, workflow_of
from app.inbound.context import Context
from app.inbound.permissions import Approvers, may_steer, standing
from app.inbound.responses import Handled, Reaction, Reply, ignored
from app.inbound.router import on
from app.surface import replies
from engine.domain.config import RepositoryConfig
from engine.domain.errors import DevflowError


@on(PullLabeled)
async def pull_labeled(context: Context, event: PullLabeled) -> Handled:
    """Say where the label belongs, in words once a pull request to each person who may start runs."""
    if event.sender.is_bot:
        return ignored("a bot put the label on")
    target = IssueTarget(event.pull.number)
    if is_ours(event.label):
        context.wish = target
    await context.confirm()
    file = await read_file(context.github, context.config_path)
    if not file.may_mean(event.label):
        return ignored("the label is not ours")
    try:
        config = file.parse()
    except DevflowError:
        config = RepositoryConfig()  # what is wrong with it is told where a run could start
    else:
        if workflow_of(event.label, config) is None:
            return ignored("the label is not ours")
    who = await standing(context.github, event.sender)
    if not may_steer(who, Approvers(config.approvers)):
        return ignored(f"{event.sender.login} may not start runs")
    confused = Reaction(target, "confused")
    key = f"issue/{event.pull.number}/{event.sender.id}/pull-label"
    if await context.has_replied(key, event.pull.number):
        return Handled("the label is on a pull request", [confused])
    text = replies.label_on_pull(event.sender.login)
    return Handled("the label is on a pull request", [confused, Reply(key, event.pull.number, text)])
