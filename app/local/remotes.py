"""Where the engine finds the repositories of local runs: they are folders, and need no credential."""

from engine.ports import Remote


class LocalRemotes:
    """A repository's remote is the folder of its git directory, as the run stored it."""

    async def remote(self, repository_id: int, location: str) -> Remote:
        """Return where to fetch from and push to."""
        return Remote(url=location, environment={})
