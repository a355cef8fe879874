"""Results of several methods, side by side: which pictures of their folders belong together."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from jointnet_cli.errors import UserError
from jointnet_cli.output.metadata import read_record
from jointnet_cli.text_file import read_text

MatchBy = Literal["auto", "name", "prompt", "order"]
MATCH_BY: tuple[str, ...] = get_args(MatchBy)
MAPS = ("depth", "normal")
SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


@dataclass(frozen=True)
class Sample:
    """One result of one method."""

    name: str
    """Of its files, without what they are: `00000_7_ocean-reef`."""
    image: Path
    maps: Mapping[str, Path]
    """Its dense maps that lie beside it, by modality."""
    prompt: str
    """Empty where it is not known."""
    seed: int


Group = Mapping[str, Sample]
"""Results of one item by the name of their method."""


def parse_methods(texts: Sequence[str]) -> dict[str, Path]:
    """Folders by the names of their methods, each given as `NAME=DIR`, or as `DIR` and called what the folder is called.

    Raises:
        UserError: fewer than two, no such folder, or two of one name.
    """
    named = []
    for text in texts:
        name, mark, folder = text.partition("=")
        path = Path(folder) if mark and not Path(text).is_dir() else Path(text)
        named.append((name if path == Path(folder) and mark else path.resolve().name, path))
        if not path.is_dir():
            raise UserError(f"no folder {path}", hint="give the folder of each method's results: DIR or NAME=DIR")
    if len(named) < 2:
        raise UserError("one method has nothing to be compared with", hint="give two folders or more")
    if twice := [name for name, count in Counter(name for name, _ in named).items() if count > 1]:
        raise UserError(f"two methods are called {twice[0]}", hint="name them: NAME=DIR")
    return dict(named)


def read_samples(folder: Path) -> list[Sample]:
    """The results in a folder, by name.

    A picture is `NAME.image.png` or any other `NAME.png`, `NAME.jpg` and so on; its maps are `NAME.depth.png` and
    `NAME.normal.png`. Prompt and seed are those of the sidecar or of the picture's own record, else the prompt is what
    `NAME.txt` says.

    Raises:
        UserError: no pictures there.
    """
    images: dict[str, Path] = {}
    maps: dict[str, dict[str, Path]] = defaultdict(dict)
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
            continue
        name, _, kind = path.stem.rpartition(".")
        if name and kind in MAPS:
            maps[name][kind] = path
        elif not (name and (kind == "preview" or kind.endswith("-uncertainty"))):
            images[name if name and kind == "image" else path.stem] = path
    if not images:
        raise UserError(f"no pictures in {folder}", hint=f"looked for {', '.join(sorted(SUFFIXES))}")
    return [_sample(folder, name, image, maps[name]) for name, image in sorted(images.items())]


def match(folders: Mapping[str, Sequence[Sample]], by: MatchBy = "auto") -> tuple[list[Group], str]:
    """The items of which two methods or more have a result, and by what they were matched.

    `name` is that of the files; `prompt` takes the n-th result of a prompt, in the order of seeds, for the n-th of the
    others; `order` the n-th of a folder. `auto` takes the first of them that matches half of the smallest folder: `name`
    only where no two prompts of an item differ, `order` only where folders hold equally many.

    Raises:
        UserError: nothing matches.
    """
    counts = {name: len(samples) for name, samples in folders.items()}
    tried = [by] if by != "auto" else ["name", "prompt", *(["order"] if len(set(counts.values())) == 1 else [])]
    for rule in tried:
        groups = _grouped({name: _KEYS[rule](samples) for name, samples in folders.items()})
        likely = 2 * len(groups) >= min(counts.values()) and not (rule == "name" and any(map(differ, groups)))
        if groups and (likely or by != "auto"):
            return groups, rule
    found = ", ".join(f"{name} has {count}" for name, count in counts.items())
    raise UserError(
        f"the pictures match by neither {' nor '.join(tried)}: {found}",
        hint="--match order takes the first of each folder together, and so on",
    )


def differ(group: Group) -> bool:
    """Whether the results of an item are known to be of different prompts."""
    return len({sample.prompt.casefold() for sample in group.values() if sample.prompt}) > 1


def _sample(folder: Path, name: str, image: Path, maps: Mapping[str, Path]) -> Sample:
    record = _sidecar(folder / f"{name}.metadata.json") or read_record(image)
    caption = folder / f"{name}.txt"
    prompt = record.get("prompt")
    if prompt is None:
        prompt = read_text(caption.read_bytes(), str(caption)) if caption.is_file() else ""
    seed = record.get("seed")
    return Sample(name, image, dict(maps), " ".join(str(prompt).split()), seed if isinstance(seed, int) else 0)


def _sidecar(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _by_prompt(samples: Sequence[Sample]) -> dict[Any, Sample]:
    found: dict[Any, Sample] = {}
    counts: Counter[str] = Counter()
    for sample in sorted(samples, key=lambda sample: (sample.seed, sample.name)):
        if prompt := sample.prompt.casefold():
            found[prompt, counts[prompt]] = sample
            counts[prompt] += 1
    return found


_KEYS: dict[str, Callable[[Sequence[Sample]], dict[Any, Sample]]] = {
    "name": lambda samples: {sample.name: sample for sample in samples},
    "prompt": _by_prompt,
    "order": lambda samples: dict(enumerate(samples)),
}


def _grouped(keyed: Mapping[str, Mapping[Any, Sample]]) -> list[Group]:
    """The samples of every key that two methods have, in the order of keys."""
    keys: Iterable[Any] = dict.fromkeys(key for samples in keyed.values() for key in samples)
    groups = [{name: samples[key] for name, samples in keyed.items() if key in samples} for key in keys]
    return [group for group in groups if len(group) > 1]
