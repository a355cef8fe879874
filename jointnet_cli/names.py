"""Names of results: the part that all files of one result share."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from string import Formatter

from jointnet_cli.errors import UserError, closest
from jointnet_cli.files.paths import NAME_BYTES, safe_name, slug, text_digest
from jointnet_cli.files.text import encodable
from jointnet_cli.request import Request

FIELDS: dict[str, str] = {
    "index": "number in the batch, from 0",
    "seed": "seed",
    "prompt": "words of the prompt",
    "image": "name of the input image without its ending",
    "title": "words of the prompt, or the name of an image without a prompt",
    "task": "name of the command",
    "model": "name of the model",
}
"""Fields of a template by name, with what they hold."""

PROMPT_TEMPLATE = "{index:05}_{seed}_{title}"
PHOTO_TEMPLATE = "{image}"
"""Used by `depth`: adding a photo to a folder does not rename the results of the others."""


def check_template(template: str) -> None:
    """Check a template such as `{prompt}_{seed}`.

    Raises:
        UserError: an unknown field, or a template that cannot be a file name.
    """
    try:
        parts = list(Formatter().parse(template))
        named = [field for _, field, _, _ in parts if field is not None]
        if unknown := next((field for field in named if field not in FIELDS), None):
            near = closest(unknown, FIELDS)
            hint = f"did you mean {{{near}}}? " if near else ""
            raise UserError(f"--name has no field {{{unknown}}}", f"{hint}the fields are {', '.join(FIELDS)}")
        if any("{" in spec or re.search("[0-9]{4}", spec) for _, _, spec, _ in parts if spec):
            raise UserError(
                f"--name {template!r} makes names too long", "give at most three digits, such as {index:05}"
            )
        if "" in named:
            raise UserError("--name has an empty field {}", f"the fields are {', '.join(FIELDS)}")
        template.format(**dict.fromkeys(FIELDS, "") | {"index": 0, "seed": 0})
    except (ValueError, KeyError, IndexError) as fault:
        raise UserError(f"--name {template!r} cannot be read: {fault}", "such as '{prompt}_{seed}'") from None
    literal = "".join(text for text, *_ in parts)
    if "/" in literal or "\\" in literal or "\0" in literal:
        raise UserError(f"--name {template!r} must be a file name without a folder", "name the folder with --out")
    if not template.strip(" ."):
        raise UserError("--name is empty", f"the fields are {', '.join(FIELDS)}")


def result_name(request: Request, index: int, template: str | None = None, *, model: str = "") -> str:
    """Return the name of a result, safe for file systems; `template` is one that `check_template` accepts."""
    return safe_name(_filled(request, index, template or default_template(request), model))


def _filled(request: Request, index: int, template: str, model: str) -> str:
    image = request.sources.get("image")
    values = {
        "index": index,
        "seed": request.seed,
        "prompt": slug(request.prompt),
        "image": safe_name(image.stem) if image else "untitled",
        "title": slug(request.title),
        "task": request.name,
        "model": slug(model),
    }
    return template.format(**values)


def default_template(request: Request) -> str:
    """Return the template of a request where none is given."""
    by_photo = request.named_after_photo and "image" in request.sources
    return PHOTO_TEMPLATE if by_photo else PROMPT_TEMPLATE


def are_distinct(first: Sequence[Request], count: int = 1, template: str | None = None, *, model: str = "") -> bool:
    """Return whether the names of a batch are known to differ without a comparison of all.

    Names that begin with the index differ. The names of one row differ if they hold a number, because nothing else changes
    and no number gets shorter. Two rows differ if their names differ without regard to digits.

    Args:
        first: the first request of every row.
        count: results of a row, whose seeds and indexes go on by one.
        template, model: as for `result_name`.
    """
    pattern = template or default_template(first[0])
    if re.match(r"\{index(:0?\d*)?\}(?![\d{])", pattern):
        return True
    numbers = [(spec, turned) for _, name, spec, turned in Formatter().parse(pattern) if name in ("index", "seed")]
    if any(turned or not re.fullmatch("(0[0-9]*)?", spec or "") for spec, turned in numbers):
        return False
    if count > 1 and not numbers:
        return False
    shapes = set()
    for row, request in enumerate(first):
        longest = replace(request, seed=request.seed + count - 1)  # type: ignore[type-var]
        text = _filled(longest, (row + 1) * count - 1, template or default_template(request), model)
        if len(unicodedata.normalize("NFC", text).encode()) > NAME_BYTES:  # it is cut
            return False
        shapes.add(re.sub(r"\d+", "0", safe_name(text).casefold()))
    return len(shapes) == len(first)


def keep_apart(
    requests: Sequence[Request], names: Sequence[str], owned: Callable[[str, Request], bool | None]
) -> list[str]:
    """Return names of which no two are equal, also where upper and lower case are the same.

    Of several requests with one name, the one that owns the files of that name keeps it, else the first that may have it;
    the others get a digest of their inputs, so that their names do not change when another request is added.

    Args:
        requests: what is asked for.
        names: their names.
        owned: whether files of a name are those of a request; `False` if it may not have the name.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for number, name in enumerate(names):
        groups[name.casefold()].append(number)
    result = list(names)
    taken = set(groups)
    for numbers in groups.values():
        states = {number: owned(names[number], requests[number]) for number in numbers}
        keeper = next((number for state in (True, None) for number in numbers if states[number] is state), None)
        for number in (number for number in numbers if number != keeper):
            request = requests[number]
            made_from = [str(request.sources.get("image", "")), request.prompt, str(request.seed)]
            name = f"{names[number]}-{text_digest(encodable(chr(0).join(made_from)), 6)}"
            repeat = 2
            result[number] = name
            while result[number].casefold() in taken:
                result[number] = f"{name}-{repeat}"
                repeat += 1
            taken.add(result[number].casefold())
    return result
