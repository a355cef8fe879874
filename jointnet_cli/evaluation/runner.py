"""Make each item of an evaluation once, share the items among processes, and keep the results.

A folder holds `settings.json` and `items/<key>/<00012>.json`. The record of an item is written last, after its other files, so
an item with a record is finished. An interrupted evaluation continues when the same command is given again.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from jointnet_cli.data.shards.format import read_record
from jointnet_cli.errors import UserError
from jointnet_cli.files.atomic import write_text
from jointnet_cli.files.paths import text_digest
from jointnet_cli.files.text import escaped_line, load_json, to_json
from jointnet_cli.processes import PATIENCE, require_shared_folder
from jointnet_cli.progress import Progress

LONGEST_NAME = 80
"""Characters of a key that the name of its folder may have."""

LONGEST_SETTING = 60
"""Characters of a setting that an error shows."""

_UNSAFE = re.compile(r"[^\w.+-]+", re.ASCII)

Record = dict[str, Any]
"""The result of one item, ready for JSON."""

Watch = Callable[[str], AbstractContextManager[Progress]]
"""Show the progress of items under a title."""


class Runner:
    """The items of one folder, for any number of keys.

    Args:
        folder: created if missing; all processes must see it.
        settings: everything besides key and number that decides the result of an item, ready for JSON.
        watch: shows progress on the main process.

    Raises:
        UserError: the folder holds items of other settings.
    """

    main: bool
    """Whether this process writes the tables."""
    failed: int
    """Items that failed so far; if there are any, the command exits with code 1."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], watch: Watch | None = None) -> None:
        self._state = join_processes()
        self._folder = folder
        self.main, self.failed = self._state.is_main_process, 0
        self._watch: Watch = watch if watch and self.main else lambda title: nullcontext(_ignore)
        fault = self._open(json.loads(to_json(settings, default=str))) if self.main else None
        if fault := broadcast_object_list([fault])[0]:
            raise fault
        require_shared_folder(self._state, folder)

    def run(
        self, key: str, numbers: Iterable[int], make: Callable[[int], Record], title: str = ""
    ) -> dict[int, Record]:
        """Make the items that have no record yet or a damaged one, and return the records of all by number, on every process.

        Every process must call it. A failed item is reported on stderr and leaves no record, so the next run tries it again.

        Args:
            key: tells these items from all others; any characters.
            numbers: items.
            make: from the number of an item to its record.
            title: shown with the progress; the default is the key.

        Raises:
            MethodUnavailable: no item can be made.
        """
        self._place(key).mkdir(parents=True, exist_ok=True)
        paths = {number: self.path(key, number, ".json") for number in numbers}
        missing = [number for number, path in paths.items() if _kept(path) is None]
        self._state.wait_for_everyone()  # before the first new record changes what the others see
        own = missing[self._state.process_index :: self._state.num_processes]
        with self._watch(title or key) as progress:
            for done, number in enumerate(own):
                progress(done, len(own))
                try:
                    write_text(paths[number], to_json(make(number), ensure_ascii=False))
                except MethodUnavailable:
                    with suppress(OSError):  # a folder without items can be used with other settings
                        self._place(key).rmdir()
                        self._place(key).parent.rmdir()
                    raise
                except (UserError, OSError, RuntimeError) as fault:
                    print(f"error: {key}, item {number}: {escaped_line(str(fault))}", file=sys.stderr, flush=True)
                progress(done + 1, len(own))
        self._state.wait_for_everyone()
        kept = {number: record for number, path in paths.items() if (record := _kept(path)) is not None}
        self.failed += len(paths) - len(kept)
        return kept

    def path(self, key: str, number: int, suffix: str) -> Path:
        """Return the path of a file of an item; the suffix of its record is `.json`."""
        return self._place(key) / f"{number:05}{suffix}"

    def _place(self, key: str) -> Path:
        return self._folder / "items" / _slug(key)

    def _open(self, settings: dict[str, Any]) -> UserError | None:
        """Claim the folder for these settings if it holds no items of others, or return the reason why it cannot be claimed."""
        path = self._folder / "settings.json"
        if not path.exists() or not (self._folder / "items").exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            write_text(path, to_json(settings, indent=2, ensure_ascii=False) + "\n")
            return None
        try:
            kept = read_record(path, len, f"remove {self._folder}, or pass another folder with --out")
        except UserError as fault:
            return fault
        other = sorted(name for name in {*kept, *settings} if kept.get(name) != settings.get(name))
        if not other:
            return None
        first = other[0]
        former, wanted = (
            textwrap.shorten(str(each.get(first)), LONGEST_SETTING, placeholder=" …") for each in (kept, settings)
        )
        return UserError(
            f"{self._folder} holds items of {first} {former}, not {wanted}",
            hint=f"pass another folder, such as --out {self._folder}-2, or remove {self._folder}",
        )


def _kept(path: Path) -> Record | None:
    """Return the record of an item; `None` if it is missing or damaged."""
    try:
        record = load_json(path)
    except (FileNotFoundError, UserError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _slug(key: str) -> str:
    """Return a folder name for a key; a digest keeps keys apart whose characters had to be replaced."""
    safe = _UNSAFE.sub("-", key).strip(".-")
    return safe if safe == key and len(key) <= LONGEST_NAME else f"{safe[-LONGEST_NAME:]}-{text_digest(key, 8)}"


def join_processes() -> PartialState:
    """Join the other processes and select the device of this one; networks that are loaded before share one device."""
    return PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)


def _ignore(done: int, total: int) -> None:
    """Ignore progress."""


class MethodUnavailable(UserError):
    """Something that all items of a method need is missing, such as its model: the command ends, and no item has failed."""


@contextmanager
def needed_by_all() -> Iterator[None]:
    """Mark errors of this block as errors of the method.

    Raises:
        MethodUnavailable: instead of any UserError.
    """
    try:
        yield
    except UserError as fault:
        raise MethodUnavailable(str(fault), fault.hint) from fault
