"""Where git finds the repositories of a host's runs, and with what it may push to them.

A token travels in the environment of one git command, as a header for this server only. Redirects are off, because
git would send the header to wherever it was redirected.
"""

import base64
import os

from app.github.faults import HostFault, RetryLater
from app.github.hub import GitHub
from engine.domain.errors import DevflowError
from engine.ports import Remote

_USER = "x-access-token"  # any name would do; GitHub's documentation uses this one
_STALLED = {"http.lowSpeedLimit": "1000", "http.lowSpeedTime": "60"}  # bytes a second, seconds
# How this machine reaches the outside is the operator's to say, and git's environment has nothing else of ours.
_NETWORK = (
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
)


class GitHubRemotes:
    """Remotes by repository number: repositories at GitHub, and folders for the negative numbers of local ones."""

    def __init__(self, github: GitHub) -> None:
        self._github = github

    async def remote(self, repository_id: int, location: str) -> Remote:
        """Return the remote with a token that holds for some minutes.

        Raises `repository_not_found` where GitHub does not show us the repository (any more), `github_unavailable`
        where it does not answer, `token_refused` where it does not take the one token that there is.
        """
        if repository_id < 0:
            return Remote(url=location)
        try:
            url, token = await self._github.git_access(repository_id)
        except RetryLater as fault:
            error = DevflowError("github_unavailable", f"GitHub gives no access to the repository now: {fault}")
        except HostFault as fault:
            hint = "see that the repository exists, and that the GitHub App is installed on it or the token reaches it"
            error = DevflowError(
                "repository_not_found", f"GitHub gives no access to the repository: {fault}", recovery_hint=hint
            )
        else:
            environment = git_environment(self._github.server_url, token.value)
            return Remote(url=url, environment=environment, refused=lambda: self._github.forget_token(token))
        raise error


def git_environment(server_url: str, token: str) -> dict[str, str]:
    """Return the environment with which git authenticates at `server_url` and nowhere else."""
    word = base64.b64encode(f"{_USER}:{token}".encode()).decode()
    options = {
        f"http.{server_url}/.extraHeader": f"Authorization: Basic {word}",
        "http.followRedirects": "false",
        **_STALLED,
    }
    environment = {name: value for name in _NETWORK if (value := os.environ.get(name))}
    environment["GIT_CONFIG_COUNT"] = str(len(options))
    for number, (key, value) in enumerate(options.items()):
        environment[f"GIT_CONFIG_KEY_{number}"] = key
        environment[f"GIT_CONFIG_VALUE_{number}"] = value
    return environment
