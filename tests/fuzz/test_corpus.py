"""Inputs that once crashed something, or that were made to: each gives a result or a `UserError`, within little memory.

A file of `corpus/` says in its name what is odd about it. Add what `make fuzz` finds.
"""

from __future__ import annotations

import shutil
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.fuzzing import ask, attempt, read_batch, read_everywhere, read_shard, scene
from helpers.web import Web, raw, running

from jointnet_cli.data.settings import PrepareSettings
from jointnet_cli.data.web.decode import to_training_image
from jointnet_cli.files.budget import limit_pixels
from jointnet_cli.model.hub import find_model
from jointnet_cli.model.weights import count_parameters, read_tensors

CORPUS = Path(__file__).parent / "corpus"


def names(kind: str) -> list[str]:
    return sorted(path.name for path in (CORPUS / kind).iterdir())


@pytest.fixture(autouse=True)
def _little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Python's and NumPy's own memory stays below 128 MB, and no input leaves a file where it is not allowed to."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    tracemalloc.start()
    with limit_pixels(1_000_000):
        yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 128_000_000
    assert not (tmp_path / "PWNED").exists() and not list(tmp_path.parent.glob("evil*"))


@pytest.mark.parametrize("name", names("files"))
def test_files(tmp_path: Path, name: str) -> None:
    path = Path(shutil.copy(CORPUS / "files" / name, tmp_path))
    read_everywhere(path)
    attempt(lambda: to_training_image(path.read_bytes(), PrepareSettings()))
    if path.suffix == ".json":
        attempt(lambda: scene(path))


@pytest.mark.parametrize("name", names("models"))
def test_models(tmp_path: Path, name: str) -> None:
    path = Path(shutil.copy(CORPUS / "models" / name, tmp_path))
    if path.suffix == ".zip":
        attempt(lambda: find_model(str(path), weights=False), lambda: find_model(str(path)))
    else:
        attempt(lambda: count_parameters(path), lambda: read_tensors(path))


@pytest.mark.parametrize("name", names("shards"))
def test_shards(tmp_path: Path, name: str) -> None:
    read_shard(Path(shutil.copy(CORPUS / "shards" / name, tmp_path)))


@pytest.mark.parametrize("name", names("batches"))
def test_batches(tmp_path: Path, name: str) -> None:
    read_batch(Path(shutil.copy(CORPUS / "batches" / name, tmp_path)))


def test_answers() -> None:
    with running(Web()) as web:
        for name in names("answers"):
            web.answers[name] = raw((CORPUS / "answers" / name).read_bytes())
            ask(web.url(name))
