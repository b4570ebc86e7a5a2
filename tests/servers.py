"""Servers that tests kill."""

import os
import signal
import time
from pathlib import Path

from engine.store.cluster import Cluster
from engine.store.installation import find_programs, server_account


def cluster_of(data_dir: Path) -> Cluster:
    """Return the cluster of a data folder that the server's user can enter."""
    account = server_account()
    return Cluster(data_dir / "postgres", find_programs(account), account)


def crash(cluster: Cluster) -> None:
    """Let the server die without closing anything, and wait until it is gone."""
    os.kill(int((cluster.data / "postmaster.pid").read_text().split()[0]), signal.SIGQUIT)
    deadline = time.monotonic() + 10
    while cluster.running():
        if time.monotonic() > deadline:
            raise TimeoutError("the server does not die")
        time.sleep(0.01)
