"""What output files are called, and whether those names are free."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from jointnet_cli.errors import UserError
from jointnet_cli.output.products import Products
from jointnet_cli.tasks import Depth, Task

SLUG_LENGTH = 48
_OWN_NAME = re.compile(r"\d{5,}_\d+_(.+)\.(?:image|rgb[dn]*)")
"""The stem of a picture that is itself a result: `00000_7_ocean-reef.image`."""


def slug(text: str) -> str:
    """Lower-case ASCII words of `text` joined by dashes: at most 48 characters, cut between words, never empty."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    dashed = re.sub(r"[^a-z0-9]+", "-", ascii_text).strip("-")
    if len(dashed) > SLUG_LENGTH:
        head = dashed[: SLUG_LENGTH + 1]  # one more, so that a word which ends exactly at the limit survives
        dashed = head.rpartition("-")[0] or head[:SLUG_LENGTH]
    return dashed or "untitled"


def kind(task: Task) -> str:
    """The task's verb at the command line: `generate`, `depth`, `inpaint`, `refine` or `panorama`."""
    return type(task).__name__.lower()


def source(task: Task) -> Path | None:
    """The file of the picture that a task starts from, if it starts from one."""
    return task.source if isinstance(task, Depth) else getattr(task, "sources", {}).get("image")


def title(kind: str, prompt: str, image: Path | None) -> str:
    """What a result is about: the prompt, for `depth` the picture's name, and for `refine` that with a word before it.

    Without the word, refining a result beside it would write over it: `00000_7_reef.image.png` is called `refined reef`.
    """
    if image is None or kind not in ("depth", "refine"):
        return prompt
    return image.stem if kind == "depth" else "refined " + _OWN_NAME.sub(r"\1", image.stem)


def stem(index: int, seed: int, text: str) -> str:
    """The part that all files of one result share; `index` counts the items of a batch from 0."""
    return f"{index:05}_{seed}_{slug(text)}"


def expected_files(
    kind: str,
    stem: str,
    maps: Sequence[str],
    *,
    products: Products | None = None,
    uncertain: Sequence[str] = (),
    metadata: bool = True,
) -> dict[str, str]:
    """The file names of one result by key, in the order in which they are written; the sidecar comes last.

    `kind` is a task's verb and `maps` names the dense maps (`depth`, `normal`), `uncertain` those of which there is an
    uncertainty. A depth task has no `image`: the photo is the user's own. It has a coloured `preview` instead; that and
    the `products` need a depth map.
    """
    files = {} if kind == "depth" else {"image": f"{stem}.image.png"}
    for name in maps:
        files[name] = f"{stem}.{name}.png"
        if name in uncertain:
            files[f"{name}_uncertainty"] = f"{stem}.{name}-uncertainty.png"
    if kind == "depth" and "depth" in maps:
        files["preview"] = f"{stem}.preview.png"
    files["exr"] = f"{stem}.rgb{''.join(name[0] for name in maps)}.exr"
    if products and "depth" in maps:
        files |= products.files(stem)
    if metadata:
        files["metadata"] = f"{stem}.metadata.json"
    return files


def check_free(paths: Iterable[Path], overwrite: bool) -> None:
    """Raise `UserError` where a path cannot be written: its folder is a file or read-only, or it exists already.

    An existing file is no fault with `overwrite`. Nothing is created: this runs before any model is loaded.
    """
    folders: set[Path] = set()
    for path in paths:
        folders.add(path.parent)
        if path.is_dir():
            raise UserError(f"{path} is a folder", hint="move it away, or choose another folder with --out")
        if path.exists() and not overwrite:
            raise UserError(f"{path} exists already", hint="add --overwrite, or choose another folder with --out")
    for folder in folders:
        existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
        if not existing.is_dir():
            raise UserError(f"{existing} is not a folder", hint="choose another folder with --out")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise UserError(f"{existing} cannot be written to", hint="choose another folder with --out")
