"""Which models are at hand, and what is known of each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jointnet_cli.errors import UserError
from jointnet_cli.model.find import DIORAMA, names
from jointnet_cli.model.folder import EMBEDDED, ModelFolder, read_folder, read_prediction
from jointnet_cli.model.places import models_home
from jointnet_cli.model.weights import count_parameters, find_weights


def list_models() -> Iterator[tuple[str, ModelFolder]]:
    """The embedded model, those in `models_home()`, and what the hub's cache holds of the families that can be opened."""
    places = {DIORAMA: EMBEDDED, **{name: models_home() / name for name in names()}, **_cached()}
    for name, path in places.items():
        try:
            yield name, read_folder(path)
        except UserError:
            continue


def describe(name: str, facts: ModelFolder) -> dict[str, Any]:
    """What a model is, ready for JSON; `parameters` and `hash` are `None` while weights are not on this machine."""
    whole = all(find_weights(folder) is not None for folder in facts.networks)
    return {
        "model": name,
        "path": str(facts.path),
        "base": None if facts.base == facts.path else str(facts.base),
        "family": facts.family.name,
        "architecture": facts.architecture,
        **({} if facts.rank is None else {"rank": facts.rank}),
        "branches": facts.branches,
        "masked_input": facts.masked_input,
        "parameters": _parameters(facts) if whole else None,
        "prediction": read_prediction(facts),
        "size": facts.size,
        "factor": facts.factor,
        "bytes": sum(_disk_size(path) for path in {facts.path, facts.base}),
        "hash": facts.weights_hash() if whole else None,
        "defaults": facts.defaults,
        "provenance": facts.provenance,
    }


def _parameters(facts: ModelFolder) -> int:
    """Those of the joint network: all branches and what they exchange."""
    files = [facts.path / name for name in facts.joint_files]
    for place in facts.unets.values():
        weights = find_weights(facts.path / place)
        files += weights.files if weights else []
    return sum(count_parameters(path) for path in files)


def _disk_size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _cached() -> dict[str, Path]:
    """Repositories in the hub's cache, each with its newest snapshot."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repositories = scan_cache_dir().repos
    except CacheNotFound:
        return {}
    found = {}
    for repository in sorted(repositories, key=lambda repository: repository.repo_id):
        if repository.repo_type == "model" and repository.revisions:
            newest = max(repository.revisions, key=lambda revision: revision.last_modified)
            found[repository.repo_id] = newest.snapshot_path
    return found
