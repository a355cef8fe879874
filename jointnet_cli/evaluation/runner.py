"""The items of an evaluation: each made once, by one of the processes, and kept.

A folder holds `settings.json` and `items/<row>/<00012>.json`. A record is written whole, after whatever lies beside it, so that
an item with a record is finished. A run that was cut off goes on where it was when the same command is given again.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from jointnet_cli.errors import UserError
from jointnet_cli.files.atomic import write_text
from jointnet_cli.files.paths import text_digest
from jointnet_cli.files.text import to_json
from jointnet_cli.processes import PATIENCE, require_shared_folder
from jointnet_cli.progress import Progress

LONGEST = 80
"""Characters of a row that its folder's name may have."""

SHOWN = 60
"""Characters of a setting that a fault names."""

_UNSAFE = re.compile(r"[^\w.+-]+", re.ASCII)


class Runner:
    """The items of one folder, of any number of rows.

    Args:
        folder: made if missing; all processes have to see it.
        settings: what decides an item's result beside its row and number, ready for JSON.

    Raises:
        UserError: the folder holds items of other settings.
    """

    main: bool
    """Whether this process writes the tables."""
    failed: int
    """Items that failed, in all rows so far; with any the command ends with exit code 1."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._state = PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)
        self._folder = folder
        self.main, self.failed = self._state.is_main_process, 0
        fault = self._open(json.loads(to_json(settings, default=str))) if self.main else None
        if fault := broadcast_object_list([fault])[0]:
            raise fault
        require_shared_folder(self._state, folder)

    def run(
        self,
        row: str,
        count: int,
        make: Callable[[int], dict[str, Any]],
        progress: Progress | None = None,
    ) -> list[dict[str, Any]]:
        """The records of a row's items 0 to `count` - 1 in order, on every process; those that failed are left out.

        Every process has to call it. An item that fails is said on stderr and leaves no record, so that the next run tries
        it again; the others go on.

        Args:
            row: what tells these items from those of other rows, of any characters.
            count: items.
            make: from an item's number to its record, ready for JSON.
            progress: called with the items that this process has finished and their number.

        Raises:
            RowFault: the row has no items at all.
        """
        self._rows(row).mkdir(parents=True, exist_ok=True)
        lacking = [number for number in range(count) if not self.path(row, number, ".json").exists()]
        self._state.wait_for_everyone()  # before the first new record changes what the others see
        own = lacking[self._state.process_index :: self._state.num_processes]
        for done, number in enumerate(own):
            if progress and not done:
                progress(done, len(own))
            try:
                write_text(self.path(row, number, ".json"), to_json(make(number), ensure_ascii=False))
            except MethodUnavailable:
                raise
            except (UserError, OSError, RuntimeError) as fault:
                print(f"error: {row}, item {number}: {fault}", file=sys.stderr, flush=True)
            if progress:
                progress(done + 1, len(own))
        self._state.wait_for_everyone()
        kept = [path for path in (self.path(row, number, ".json") for number in range(count)) if path.exists()]
        self.failed += count - len(kept)
        return [json.loads(path.read_text(encoding="utf-8")) for path in kept]

    def path(self, row: str, number: int, suffix: str) -> Path:
        """Where an item keeps something; its record is at `.json`."""
        return self._rows(row) / f"{number:05}{suffix}"

    def _rows(self, row: str) -> Path:
        return self._folder / "items" / _slug(row)

    def _open(self, settings: dict[str, Any]) -> UserError | None:
        """Claim the folder for these settings, or say why not."""
        path = self._folder / "settings.json"
        if not path.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            write_text(path, to_json(settings, indent=2, ensure_ascii=False) + "\n")
            return None
        kept = json.loads(path.read_text(encoding="utf-8"))
        other = sorted(name for name in {*kept, *settings} if kept.get(name) != settings.get(name))
        if not other:
            return None
        first = other[0]
        former, wanted = (textwrap.shorten(str(each.get(first)), SHOWN, placeholder=" …") for each in (kept, settings))
        return UserError(
            f"{self._folder} holds items of {first} {former}, not {wanted}",
            hint="give another --out, or remove that folder",
        )


def _slug(row: str) -> str:
    """A folder's name for a row; what cannot be in one is replaced, and a digest keeps rows apart."""
    safe = _UNSAFE.sub("-", row).strip(".-")
    return safe if safe == row and len(row) <= LONGEST else f"{safe[-LONGEST:]}-{text_digest(row, 8)}"


class MethodUnavailable(UserError):
    """What all items of a row need is not there, such as its model: the command ends, and no item has failed."""


@contextmanager
def needed_by_all() -> Iterator[None]:
    """Faults in here are the row's.

    Raises:
        RowFault: instead of any UserError.
    """
    try:
        yield
    except UserError as fault:
        raise MethodUnavailable(str(fault), fault.hint) from fault
