"""The repository's configuration at GitHub: a file of the default branch, read when it is needed.

It lies at `.github/devflow.yml`, unless whoever runs us says otherwise.
"""

from app.github.client import GitHubRepository
from app.github.faults import Refused
from engine.domain.config import CONFIG_PATH, RepositoryConfig
from engine.domain.errors import DevflowError
from engine.domain.files import load_model
from engine.domain.yaml_lines import FilesInvalid, parse_yaml

PREFIX = "devflow"


async def read_config(github: GitHubRepository, path: str = CONFIG_PATH) -> RepositoryConfig:
    """Return the configuration, the defaults where there is none; raises `config_invalid` with file and line."""
    return parse_config(await read_file(github, path), path)


async def read_file(github: GitHubRepository, path: str = CONFIG_PATH) -> bytes | None:
    """Return the file's bytes, None where there is none; raises `config_invalid` for a folder or a huge file."""
    try:
        return await github.file(path)
    except Refused as refused:
        raise DevflowError("config_invalid", f"{path} cannot be read: {refused.message}") from None


def parse_config(data: bytes | None, path: str = CONFIG_PATH) -> RepositoryConfig:
    """Return the configuration in the file; raises `config_invalid` with every mistake."""
    return RepositoryConfig() if data is None else load_model(RepositoryConfig, data, path)[0]


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


def may_be_meant(label: str, data: bytes | None) -> bool:
    """Tell whether a label starts a run, as far as a configuration with mistakes in it can still say so."""
    if is_ours(label):
        return True
    try:
        value = parse_yaml(data or b"", CONFIG_PATH).value
    except FilesInvalid:
        return False
    labels = value.get("labels") if isinstance(value, dict) else None
    return isinstance(labels, dict) and label.casefold() in {str(name).casefold() for name in labels}
