"""What may be wrong with an attempt, how the agent is told, and which error it becomes when the repair fails too."""

from dataclasses import dataclass

from engine.domain.errors import DevflowError

MAX_ATTEMPTS = 2

_FINAL = {
    "artifact_missing": "artifact_invalid_after_repair",
    "artifact_invalid": "artifact_invalid_after_repair",
    "artifact_timeout": "artifact_timeout_exhausted",
    "protected_path": "protected_path",
    "check_failed": "check_failed",
    "model_reply_invalid": "model_reply_invalid",
}


@dataclass(frozen=True)
class Fault:
    """Why an attempt was not accepted: `errors` are at most five of `{path, message}`."""

    code: str
    errors: tuple[dict[str, str], ...]

    @classmethod
    def of(cls, code: str, errors: list[dict[str, str]]) -> "Fault":
        """Return a fault with the first five errors."""
        return cls(code, tuple(errors[:5]))

    def to_json(self) -> dict[str, object]:
        """Return the value stored with the phase until the agent has been told."""
        return {"code": self.code, "errors": list(self.errors)}

    def final_error(self, phase_key: str) -> DevflowError:
        """Return the error that the run ends with when the repair did not help."""
        first = "; ".join(f"{item['path']}: {item['message']}" for item in self.errors)
        return DevflowError(_FINAL[self.code], f"phase {phase_key}, after one repair: {first}")
