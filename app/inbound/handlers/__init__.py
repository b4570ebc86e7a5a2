"""What each kind of event does, a module a duty; importing this package registers them all with the router."""

from app.inbound.handlers import closings, comments, installations, labels, pull_labels, pushes, reviews

__all__ = ["closings", "comments", "installations", "labels", "pull_labels", "pushes", "reviews"]
