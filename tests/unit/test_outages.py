"""Which of git's complaints mean that the server is down for now, and which that it refuses."""

import pytest

from engine.workspace.git import is_outage

URL = "fatal: unable to access 'https://host.invalid/o/r.git/': "


@pytest.mark.parametrize(
    "said",
    [
        URL + "The requested URL returned error: 502",
        URL + "The requested URL returned error: 429",
        URL + "Could not resolve host: host.invalid",
        URL + "Failed to connect to host.invalid port 443 after 5 ms: Couldn't connect to server",
        URL + "Connection timed out",
        URL + "Recv failure: Connection reset by peer",
        URL + "Empty reply from server",
        "error: RPC failed; HTTP 503 curl 22 The requested URL returned error: 503\nfatal: the remote end hung up",
        "fatal: early EOF",
    ],
)
def test_a_server_that_is_down_is_tried_again(said: str) -> None:
    assert is_outage(said)


@pytest.mark.parametrize(
    "said",
    [
        URL + "The requested URL returned error: 403",
        "fatal: repository 'https://host.invalid/o/r.git/' not found",
        "fatal: Authentication failed for 'https://host.invalid/o/r.git/'",
        "fatal: '/nowhere' does not appear to be a git repository",
        "fatal: couldn't find remote ref refs/heads/x",
        " ! [rejected]  a -> b (stale info)",
        "",
    ],
)
def test_a_refusal_is_none(said: str) -> None:
    assert not is_outage(said)
