"""What a model folder says of itself, read without torch: enough to plan a run and to refuse what cannot work."""

from __future__ import annotations

import difflib
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jointnet_cli.errors import UserError

EMBEDDED = Path(__file__).parent / "diorama"
FORMAT = 1
RGB = "rgb"
FALLBACK = {"scheduler": "ddim", "steps": 50, "guidance": 7.5}
"""Sampling defaults of a model whose folder states none: the paper's."""
PARTS = (
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "tokenizer/tokenizer_config.json",
    "scheduler/scheduler_config.json",
)
REMEDY = "the folder is incomplete or damaged: copy or export the whole model again"


@dataclass(frozen=True)
class ModelFolder:
    """The facts of a model folder."""

    path: Path
    branches: list[str]
    """Names in branch order; RGB is the first."""
    masked_input: bool
    factor: int
    """Pixels a latent pixel stands for."""
    window: int
    """Side of the square images the model was trained on, in latent pixels."""
    defaults: dict[str, Any]
    """Sampling defaults: `scheduler`, `steps`, `guidance`, and `depth_steps` where the model has its own."""
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Side of the square images the model was trained on, in pixels."""
        return self.window * self.factor

    def latent_side(self, pixels: int, what: str) -> int:
        """Pixels to latent pixels.

        Raises:
            UserError: no positive multiple of the VAE's factor; `what` is the option to correct.
        """
        if pixels < self.factor or pixels % self.factor:
            nearest = max(self.factor, round(pixels / self.factor) * self.factor)
            raise UserError(f"{what} {pixels} is no multiple of {self.factor}", hint=f"--{what} {nearest}")
        return pixels // self.factor

    def weights_hash(self) -> str:
        """Twelve hexadecimal digits that name the weights; see `weights_hash`."""
        return weights_hash(self.path)


def find_model(name: str) -> ModelFolder:
    """The embedded model, or the folder of that path.

    Raises:
        UserError: neither, or a folder that holds no model of a known format.
    """
    if name == "diorama":
        return read_folder(EMBEDDED)
    if not Path(name).is_dir():
        near = difflib.get_close_matches(name, ["diorama"], n=1)
        hint = f"did you mean {near[0]}?" if near else "give diorama or the path of a model folder"
        raise UserError(f"no model {name}", hint=hint)
    return read_folder(Path(name))


def read_folder(path: Path) -> ModelFolder:
    """Read the JSON files of a model folder.

    Raises:
        UserError: no model there, or one of another format.
    """
    if not (path / "model_index.json").is_file():
        raise UserError(
            f"no model in {path}", hint="a model folder holds model_index.json, unet/, vae/, text_encoder/ …"
        )
    record = _read_record(path)
    _require_parts(path, record["branches"])
    size = _read(path / "unet" / "config.json", "sample_size")["sample_size"]
    levels = _read(path / "vae" / "config.json", "block_out_channels")["block_out_channels"]
    return ModelFolder(
        path=path,
        branches=record["branches"],
        masked_input=record["masked_input"],
        factor=2 ** (len(levels) - 1),
        window=int(size if isinstance(size, int) else size[0]),
        defaults={**FALLBACK, **record["defaults"]},
        provenance=record["provenance"],
    )


def weights_hash(folder: str | Path) -> str:
    """SHA-256 over the safetensors files of a folder, in order of path, cut to twelve hexadecimal digits."""
    digest = hashlib.sha256()
    for path in sorted(Path(folder).rglob("*.safetensors")):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _read_record(folder: Path) -> dict[str, Any]:
    """`jointnet.json`, or what a base model without it amounts to: one branch, RGB."""
    path = folder / "jointnet.json"
    if not path.is_file():
        return {"branches": [RGB], "masked_input": False, "defaults": {}, "provenance": {}}
    record = _read(path, "format")
    if record["format"] != FORMAT:
        raise UserError(f"{path}: format {record['format']} is not known", hint="install a newer jointnet-cli")
    return _read(path, "branches", "masked_input", "defaults", "provenance")


def _require_parts(folder: Path, branches: list[str]) -> None:
    joint = [f"branches/{name}/config.json" for name in branches[1:]]
    if joint:
        joint.append("exchange.safetensors")
    for part in (*PARTS, *joint):
        if not (folder / part).is_file():
            raise UserError(f"the model in {folder} lacks {part}", hint=REMEDY)


def _read(path: Path, *keys: str) -> dict[str, Any]:
    """A JSON file that has these keys."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}", hint=REMEDY) from error
    for key in keys:
        if not isinstance(content, dict) or content.get(key) is None:
            raise UserError(f"{path} does not say {key}", hint=REMEDY)
    return content
