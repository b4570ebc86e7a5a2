"""The App's list of webhook deliveries, and asking for one again."""

import base64
import json
from typing import Any
from urllib.parse import urlencode

from tests.github_double.call import Answer, Call, route
from tests.github_double.outbox import Delivery
from tests.github_double.refusal import Refused, not_found
from tests.github_double.world import stamp

_APP = ("app",)


@route("GET", "/app/hook/deliveries", kinds=_APP)
def list_deliveries(call: Call) -> Any:
    """The attempts so far, newest first, a cursor leading to the next page."""
    rows = [each for each in reversed(call.world.outbox.deliveries) if each.delivered_at is not None]
    if call.query.get("status") in ("success", "failure"):
        rows = [each for each in rows if (each.status == "OK") == (call.query["status"] == "success")]
    size = min(max(int(call.query.get("per_page", "30")), 1), 100)
    cursor = call.query.get("cursor")
    if cursor:
        try:
            before = int(base64.b64decode(cursor))
        except ValueError:
            raise Refused(400, "Invalid cursor") from None
        rows = [each for each in rows if each.id < before]
    page, more = rows[:size], len(rows) > size
    headers = {}
    if more:
        following = {"per_page": size, "cursor": base64.b64encode(str(page[-1].id).encode()).decode()}
        headers["Link"] = f'<{call.world.api_url}{call.path}?{urlencode(following)}>; rel="next"'
    return Answer(200, [_item(each) for each in page], headers)


@route("GET", "/app/hook/deliveries/{delivery_id}", kinds=_APP)
def get_delivery(call: Call) -> Any:
    """One attempt with what was sent and what came back."""
    delivery = _delivery(call)
    return _item(delivery) | {
        "url": call.world.outbox.webhook_url,
        "request": {"headers": delivery.headers, "payload": json.loads(delivery.body)},
        "response": {"headers": delivery.answer_headers, "payload": delivery.answer},
    }


@route("POST", "/app/hook/deliveries/{delivery_id}/attempts", kinds=_APP)
def redeliver(call: Call) -> Any:
    """The same delivery once more, under its own GUID."""
    call.world.outbox.again(_delivery(call))
    return Answer(202, {})


def _delivery(call: Call) -> Delivery:
    wanted = call.number("delivery_id")
    for each in call.world.outbox.deliveries:
        if each.id == wanted and each.delivered_at is not None:
            return each
    raise not_found()


def _item(which: Delivery) -> dict[str, Any]:
    return {
        "id": which.id,
        "guid": which.guid,
        "delivered_at": stamp(which.delivered_at),
        "redelivery": which.redelivery,
        "duration": which.duration,
        "status": which.status,
        "status_code": which.status_code,
        "event": which.event,
        "action": which.action,
        "installation_id": which.installation_id,
        "repository_id": which.repository_id,
        "throttled_at": None,
    }
