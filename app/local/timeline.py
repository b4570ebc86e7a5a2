"""A run's events as lines that a person reads while it goes on."""

from datetime import datetime
from typing import Any

_SHOWN_REASON = 120
_QUIET = {"artifact.expected", "prompt.sent", "session.resumed", "artifact.validated"}


def line(event: dict[str, Any], started_at: datetime) -> str | None:
    """Return the line of one event (a row of `events`), or None where it would only be noise."""
    if event["type"] in _QUIET:
        return None
    text = _text(event["type"], event["payload"])
    if text is None:
        return None
    at = datetime.fromisoformat(event["at"])
    seconds = (at - started_at).total_seconds()
    minutes, rest = divmod(max(seconds, 0), 60)
    return f"{int(minutes):3d}:{rest:04.1f}  {(event['phase_key'] or '').removeprefix('-'):<10} {text}"


def _text(kind: str, data: dict[str, Any]) -> str | None:
    round_ = f" (round {data['round']})" if data.get("round", 1) > 1 else ""
    match kind:
        case "run.created":
            return f"run created: {data['workflow']} on {data['base_sha'][:12]}, by {data['by']}"
        case "run.started":
            return f"run started, sandbox: {data['sandbox']}"
        case "run.resumed":
            return f"run resumed: {data['reason']}"
        case "run.paused":
            return f"run paused: {data['message']}"
        case "run.completed":
            return "run completed"
        case "run.failed":
            return f"run failed: {data['code']}"  # the phase that failed has said why, and the summary says it again
        case "run.aborted":
            return f"run aborted by {data['by']}" + (f": {data['note']}" if data["note"] else "")
        case "phase.started":
            why = " ".join((data.get("feedback") or "").split())
            shown = why if len(why) <= _SHOWN_REASON else f"{why[:_SHOWN_REASON].rstrip()} ..."
            return f"started by {data['persona']}{round_}" + (f": {shown}" if why else "")
        case "phase.skipped":
            return f"skipped: {data['reason']}"
        case "phase.completed":
            return f"completed{round_}"
        case "phase.failed":
            return f"failed: {data['code']}: {data['message']}"
        case "session.started":
            return f"session started with model {data['model']}"
        case "session.failed":
            return f"session failed: {data['code']}: {data['message']}"
        case "prompt.repaired":
            return "asked to repair its work"
        case "artifact.timeout":
            return f"attempt {data['attempt']} ran out of time ({data['timeout_seconds']} s)"
        case "artifact.invalid":
            errors = "; ".join(f"{item['path']}: {item['message']}" for item in data["errors"])
            return f"attempt {data['attempt']} not accepted ({data['code']}): {errors}"
        case "artifact.committed":
            return f"committed {data['commit'][:12]}"
        case "check.finished":
            code = "no exit code" if data["exit_code"] is None else f"exit {data['exit_code']}"
            verdict = "as expected" if data["met"] else f"expected to {data['expected']}"
            return f"check {data['name']}: {code}, {verdict} ({data['milliseconds'] / 1000:.1f} s)"
        case "approval.requested":
            needs = f", {data['required_approvals']} approvals" if data["required_approvals"] > 1 else ""
            return f"gate {data['gate_key']} waits for an answer{round_}{needs}"
        case "approval.resolved":
            note = f": {data['note']}" if data.get("note") else ""
            return f"gate {data['gate_key']}: {data['action']} by {data['by']}{note}"
        case "report.written":
            return "report written"
    return kind
