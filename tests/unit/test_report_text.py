"""The report for people: what a check printed is shown, and steers neither a terminal nor Markdown."""

from engine.runner.report import report_markdown


def test_the_output_of_a_failed_check_is_shown_without_control_characters() -> None:
    check = {"phase_key": "build", "name": "unit", "command": "make", "exit_code": 1, "expected": "pass", "met": False}
    report = {
        **{"number": 1, "title": "T", "status": "failed", "workflow": "w@1", "branch": "b", "error": None},
        **{"phases": [], "approvals": [], "bindings": [], "sandbox": "none", "unresolved": []},
        "cost": {"cost_usd": None, "calls": 0},
        "checks": [check | {"seconds": 1.0, "output_tail": "one\x1b[2J\x1b]0;owned\x07\n\u202etwo\r\n# three"}],
    }

    text = report_markdown(report).decode()

    assert "    one[2J]0;owned\n    two\n    # three\n" in text
    assert not any(ord(char) < 32 for char in text if char != "\n")
