"""Which handler an event goes to: one for each type, registered where it is written."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from app.github.events import Event
from app.inbound.context import Context
from app.inbound.responses import Handled

E = TypeVar("E", bound=Event)
Handler = Callable[[Context, E], Awaitable[Handled]]


class Router:
    """Handlers by the type of event that they take."""

    def __init__(self) -> None:
        self._handlers: dict[type[Event], Handler[Any]] = {}

    def on(self, kind: type[E]) -> Callable[[Handler[E]], Handler[E]]:
        """Register the decorated function for a type of event; a second one for the same type is a mistake."""

        def register(handler: Handler[E]) -> Handler[E]:
            if kind in self._handlers:
                raise ValueError(f"{kind.__name__} has a handler already")
            self._handlers[kind] = handler
            return handler

        return register

    def handler(self, event: Event) -> Handler[Any] | None:
        """Return the handler of an event, None where nothing is to be done about it."""
        return self._handlers.get(type(event))

    @property
    def kinds(self) -> frozenset[type[Event]]:
        """The types of events that something is done about."""
        return frozenset(self._handlers)


router = Router()
on = router.on
