"""What a server of the App needs in its environment to take the double for GitHub."""

from tests.github_double.double import GitHubDouble


def environment(github: GitHubDouble) -> dict[str, str]:
    """Return the variables by which `devflow serve` finds this double as its GitHub."""
    return {
        "GITHUB_APP_ID": str(github.app.id),
        "GITHUB_PRIVATE_KEY": github.app.private_key_pem,
        "GITHUB_WEBHOOK_SECRET": github.app.webhook_secret,
        "GITHUB_API_URL": github.api_url,
        "GITHUB_SERVER_URL": github.server_url,
    }
