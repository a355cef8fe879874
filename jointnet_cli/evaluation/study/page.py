"""A page for blind pairwise choice, the paper's user study (A.2.1, Table 4), and the key to its votes.

The page names images by digests only. The key, a file of its own, states the method of each image.
"""

from __future__ import annotations

import io
import random
from base64 import b64encode
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import combinations, zip_longest
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from jointnet_cli.errors import UserError
from jointnet_cli.files.atomic import atomic_file, write_text
from jointnet_cli.files.images import read_image
from jointnet_cli.files.maps import read_map, relative_disparity
from jointnet_cli.files.metadata import read_record
from jointnet_cli.files.paths import IMAGE_SUFFIXES, OUTPUT_ENDINGS, file_digest, is_below, text_digest
from jointnet_cli.files.text import load_object, read_bytes, read_text, to_json
from jointnet_cli.progress import Progress

PAGE, KEY = "compare.html", "compare.key.json"

MAPS = ("depth", "normal")

FORMAT = 1

LOSSLESS = 100

_PLACE = "<!-- study -->"

MatchBy = Literal["auto", "name", "prompt", "order"]


@dataclass(frozen=True)
class Shown:
    """An image of the page."""

    id: str
    path: Path
    modality: str
    """`image`, or that of a map."""


@dataclass(frozen=True)
class Side:
    """One method's result of a pair."""

    method: str
    pictures: tuple[Shown, ...]


@dataclass(frozen=True)
class Pair:
    """Two methods' results of one item."""

    id: str
    item: str
    prompt: str
    left: Side
    right: Side


def make_pairs(groups: Sequence[Group], *, seed: int = 0, limit: int | None = None, maps: bool = True) -> list[Pair]:
    """Return every two methods' results of every item, in an order and on sides that the seed decides.

    Of every two methods each is on the left as often as the other, or once more; with a limit all twos have equally
    many pairs, or one more.

    Args:
        groups: the items.
        seed: decides order and sides.
        limit: how many pairs, all if there are fewer.
        maps: whether the maps that both sides have are shown below the images.
    """
    rng = random.Random(f"compare {seed}")
    methods = list(dict.fromkeys(name for group in groups for name in group))
    queues = []
    for two in combinations(methods, 2):
        shared = [group for group in groups if two[0] in group and two[1] in group]
        rng.shuffle(shared)
        first = rng.randrange(2)
        queues.append(
            [_pair(group, two if number % 2 == first else two[::-1], seed, maps) for number, group in enumerate(shared)]
        )
    rng.shuffle(queues)
    pairs = [pair for turn in zip_longest(*queues) for pair in turn if pair][:limit]
    rng.shuffle(pairs)
    return pairs


def default_question(pairs: Sequence[Pair]) -> str:
    """Return the paper's question: which is best overall in text-image consistency, image-depth consistency and quality."""
    prompted = any(pair.prompt for pair in pairs)
    mapped = any(len(pair.left.pictures) > 1 for pair in pairs)
    counts = [
        *(["how well it fits the prompt"] if prompted else []),
        *(["how well image and geometry fit each other"] if mapped else []),
        "the quality of both" if mapped else "its quality",
    ]
    return f"Which is better overall? Think of {' and '.join(filter(None, [', '.join(counts[:-1]), counts[-1]]))}."


def write_study(
    folder: Path,
    pairs: Sequence[Pair],
    questions: Sequence[str],
    facts: Mapping[str, Any],
    *,
    quality: int = LOSSLESS,
    progress: Progress | None = None,
) -> tuple[Path, Path]:
    """Write the page and its key; of each image only the pixels get into the page.

    Args:
        folder: created if missing.
        pairs: in the order in which they are asked.
        questions: asked of every pair.
        facts: what the key states besides, such as methods and seed.
        quality: of JPEG; 100 is PNG.
        progress: called with the number of written images and of all.

    Raises:
        UserError: an image that cannot be read.
    """
    pictures = {picture.id: picture for pair in pairs for side in (pair.left, pair.right) for picture in side.pictures}
    page = _digest("page", *questions, *(pair.id for pair in pairs))
    study = {
        "page": page,
        "questions": list(questions),
        "pairs": [
            {"id": pair.id, "prompt": pair.prompt, **{side: _ids(getattr(pair, side)) for side in ("left", "right")}}
            for pair in pairs
        ],
    }
    key = {
        "format": FORMAT,
        "page": page,
        **facts,
        "questions": list(questions),
        "pairs": {
            pair.id: {"item": pair.item, "prompt": pair.prompt, "left": pair.left.method, "right": pair.right.method}
            for pair in pairs
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    head, tail = files("jointnet_cli.evaluation.study").joinpath("page.html").read_text(encoding="utf-8").split(_PLACE)
    with atomic_file(folder / PAGE) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write(head)
        stream.write(_script("data", "application/json", to_json(study, ensure_ascii=False)))
        for done, (name, picture) in enumerate(sorted(pictures.items())):
            stream.write(_script(name, "text/plain", _data_uri(picture, quality)))
            if progress:
                progress(done + 1, len(pictures))
        stream.write(tail)
    write_text(folder / KEY, to_json(key, indent=1, ensure_ascii=False) + "\n")
    return folder / PAGE, folder / KEY


def _pair(group: Group, methods: Sequence[str], seed: int, maps: bool) -> Pair:
    samples = [group[name] for name in methods]
    both = [kind for kind in MAPS if maps and all(kind in sample.maps for sample in samples)]
    left, right = (
        Side(name, tuple(_shown(sample, kind, name, seed) for kind in ("image", *both)))
        for name, sample in zip(methods, samples, strict=True)
    )
    prompt = next((sample.prompt for sample in group.values() if sample.prompt), "")
    name = next(iter(group.values())).name
    return Pair(_digest("pair", name, *_ids(left), *_ids(right)), name, prompt, left, right)


def _shown(sample: StudySample, modality: str, method: str, seed: int) -> Shown:
    path = sample.image if modality == "image" else sample.maps[modality]
    content = file_digest(path)
    return Shown(_digest("picture", str(seed), method, sample.name, modality, content), path, modality)


def _ids(side: Side) -> list[str]:
    return [picture.id for picture in side.pictures]


def _digest(*parts: str) -> str:
    return text_digest(to_json(parts), 16)


def _script(name: str, kind: str, text: str) -> str:
    """Return a script element that holds data; `<`, which only JSON can contain, is escaped."""
    return f'<script id="{name}" type="{kind}">{text.replace("<", chr(92) + "u003c")}</script>\n'


def _data_uri(picture: Shown, quality: int) -> str:
    """Encode an image anew from its pixels, without the record of how it was made; depth becomes disparity in one range."""
    if picture.modality == "depth":
        values = relative_disparity(read_map(picture.path, "depth").values)
    else:
        values = read_image(picture.path)
    pixels, stream = Image.fromarray(np.rint(values * 255).astype(np.uint8)), io.BytesIO()
    if quality == LOSSLESS:
        pixels.save(stream, "PNG", optimize=True)
    else:
        pixels.save(stream, "JPEG", quality=quality, subsampling=0)
    kind = "png" if quality == LOSSLESS else "jpeg"
    return f"data:image/{kind};base64,{b64encode(stream.getvalue()).decode()}"


@dataclass(frozen=True)
class StudySample:
    """One result of one method."""

    name: str
    """Stem of its files: `00000_7_ocean-reef`."""
    image: Path
    maps: Mapping[str, Path]
    """Files of its dense maps by modality."""
    prompt: str
    """Empty if unknown."""
    seed: int


Group = Mapping[str, StudySample]
"""Results of one item by the name of their method."""


def parse_methods(texts: Sequence[str]) -> dict[str, Path]:
    """Return folders by the names of their methods, each given as `NAME=DIR`, or as `DIR` with the folder's own name.

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


def read_samples(folder: Path) -> list[StudySample]:
    """Return the results in a folder, by name.

    An image is `NAME.image.png` or any other `NAME.png`, `NAME.jpg` and so on; its maps are `NAME.depth.png` and
    `NAME.normal.png`. Prompt and seed are those of the sidecar or of the image's own record, else the prompt is the text
    of `NAME.txt`.

    Raises:
        UserError: no images there.
    """
    images: dict[str, Path] = {}
    maps: dict[str, dict[str, Path]] = defaultdict(dict)
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
            continue
        name, _, kind = path.stem.rpartition(".")
        if name and kind in MAPS:
            maps[name][kind] = path
        elif not path.name.endswith(OUTPUT_ENDINGS):
            images[name if name and kind == "image" else path.stem] = path
    if not images:
        raise UserError(f"no images in {folder}", hint=f"looked for {', '.join(sorted(IMAGE_SUFFIXES))}")
    return [_sample(folder, name, image, maps[name]) for name, image in sorted(images.items())]


def match(folders: Mapping[str, Sequence[StudySample]], by: MatchBy = "auto") -> tuple[list[Group], str]:
    """Group the results of each item that at least two methods have; also return what they were matched by.

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
        f"the images match by neither {' nor '.join(tried)}: {found}",
        hint="--match order takes the first of each folder together, and so on",
    )


def differ(group: Group) -> bool:
    """Return whether the results of an item are known to be of different prompts."""
    return len({sample.prompt.casefold() for sample in group.values() if sample.prompt}) > 1


def _sample(folder: Path, name: str, image: Path, maps: Mapping[str, Path]) -> StudySample:
    record = load_object(folder / f"{name}.metadata.json") or read_record(image)
    caption = folder / f"{name}.txt"
    has_caption = caption.is_file() and is_below(caption, [folder.resolve()])
    prompt = record.get("prompt")
    if prompt is None:
        prompt = read_text(read_bytes(caption), str(caption)) if has_caption else ""
    seed = record.get("seed")
    return StudySample(name, image, dict(maps), " ".join(str(prompt).split()), seed if isinstance(seed, int) else 0)


def _by_prompt(samples: Sequence[StudySample]) -> dict[Any, StudySample]:
    found: dict[Any, StudySample] = {}
    counts: Counter[str] = Counter()
    for sample in sorted(samples, key=lambda sample: (sample.seed, sample.name)):
        if prompt := sample.prompt.casefold():
            found[prompt, counts[prompt]] = sample
            counts[prompt] += 1
    return found


_KEYS: dict[str, Callable[[Sequence[StudySample]], dict[Any, StudySample]]] = {
    "name": lambda samples: {sample.name: sample for sample in samples},
    "prompt": _by_prompt,
    "order": lambda samples: dict(enumerate(samples)),
}


def _grouped(keyed: Mapping[str, Mapping[Any, StudySample]]) -> list[Group]:
    """Return the samples of every key that two methods have, in the order of keys."""
    keys: Iterable[Any] = dict.fromkeys(key for samples in keyed.values() for key in samples)
    groups = [{name: samples[key] for name, samples in keyed.items() if key in samples} for key in keys]
    return [group for group in groups if len(group) > 1]
