"""The repository's configuration at GitHub: a file of the default branch, read when it is needed.

It lies at `.github/devflow.yml`, unless whoever runs us says otherwise.
"""

import re
from dataclasses import dataclass

from app.github.client import GitHubRepository
from app.github.faults import NoFile
from engine.domain.config import CONFIG_PATH, RepositoryConfig
from engine.domain.errors import DevflowError
from engine.domain.files import load_model
from engine.domain.yaml_lines import FilesInvalid, parse_yaml

PREFIX = "devflow"


@dataclass(frozen=True)
class ConfigFile:
    """What lies at the configuration's path: its bytes, None where there is nothing, and why it can be no file."""

    path: str
    data: bytes | None
    unreadable: str = ""

    def parse(self) -> RepositoryConfig:
        """Return the configuration, the defaults where there is none; raises `config_invalid` with every mistake."""
        if self.unreadable:
            raise DevflowError("config_invalid", f"{self.path} cannot be read: {self.unreadable}")
        return RepositoryConfig() if self.data is None else load_model(RepositoryConfig, self.data, self.path)[0]

    def may_mean(self, label: str) -> bool:
        """Tell whether a label starts a run, as far as a configuration with mistakes in it can still say so."""
        if is_ours(label):
            return True
        try:
            value = parse_yaml(self.data or b"", self.path).value
        except FilesInvalid:
            return self._names(label)
        labels = value.get("labels") if isinstance(value, dict) else None
        return isinstance(labels, dict) and label.casefold() in {str(name).casefold() for name in labels}

    def _names(self, label: str) -> bool:
        """Tell whether the label's name stands anywhere in the text, and not inside another word."""
        text = (self.data or b"").decode(errors="replace").casefold()
        return re.search(rf"(?<![\w-]){re.escape(label.casefold())}(?![\w-])", text) is not None


async def read_config(github: GitHubRepository, path: str = CONFIG_PATH) -> RepositoryConfig:
    """Return the configuration; raises `config_invalid` with file and line, and a fault."""
    return (await read_file(github, path)).parse()


async def read_file(github: GitHubRepository, path: str = CONFIG_PATH) -> ConfigFile:
    """Return what lies at the configuration's path on the default branch; raises a fault."""
    try:
        return ConfigFile(path, await github.file(path))
    except NoFile as fault:
        return ConfigFile(path, None, fault.message)


def is_ours(label: str) -> bool:
    """Tell whether a label starts a run in every repository: `devflow`, `devflow:NAME`."""
    return label.casefold() == PREFIX or label.casefold().startswith(f"{PREFIX}:")


def workflow_of(label: str, config: RepositoryConfig) -> str | None:
    """Return the workflow that a label asks for, empty for the repository's default; None: the label is not ours.

    GitHub does not tell labels apart by the case of their letters. What the configuration says goes first.
    """
    for name, workflow in config.labels.items():
        if name.casefold() == label.casefold():
            return workflow
    if not is_ours(label):
        return None
    return label.partition(":")[2].strip()
