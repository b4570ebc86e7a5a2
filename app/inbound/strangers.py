"""People without rights who ask for something again and again: they are answered a few times, and then left alone.

Each answer is a call that changes something at GitHub, which allows an installation only so many. What is counted here
is this process's; a count that is lost at a restart costs a few emojis.
"""

from collections import OrderedDict

MOST_ANSWERS = 5
_PEOPLE = 10_000


class Strangers:
    """Counts what strangers asked for, by repository, issue and person; those seen longest ago are forgotten."""

    def __init__(self) -> None:
        self._asked: OrderedDict[tuple[int, int, int], int] = OrderedDict()

    def is_tiring(self, repository_id: int, issue_number: int, person_id: int) -> bool:
        """Tell whether a person has been answered often enough on an issue."""
        return self._asked.get((repository_id, issue_number, person_id), 0) >= MOST_ANSWERS

    def note(self, repository_id: int, issue_number: int, person_id: int) -> None:
        """Count that a person asked for what is not theirs to ask for."""
        key = (repository_id, issue_number, person_id)
        self._asked[key] = self._asked.get(key, 0) + 1
        self._asked.move_to_end(key)
        while len(self._asked) > _PEOPLE:
            self._asked.popitem(last=False)
