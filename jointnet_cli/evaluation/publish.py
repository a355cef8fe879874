"""A finished table goes to its folder and to stdout."""

from __future__ import annotations

import sys
from pathlib import Path

from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.plot import draw
from jointnet_cli.evaluation.table import Table
from jointnet_cli.output.atomic import write_text
from jointnet_cli.strict_json import to_json


def publish(table: Table, folder: Path, *, as_json: bool, quiet: bool = False) -> None:
    """Write `table.json`, `table.md` and `table.png`, name them on stderr, and print the Markdown, or one line of JSON.

    Quiet, the files are not named. Without matplotlib there is no picture, which is said on stderr.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record, markdown = table.to_json(), table.to_markdown()
    paths = [folder / "table.json", folder / "table.md"]
    write_text(paths[0], to_json(record, indent=2, ensure_ascii=False) + "\n")
    write_text(paths[1], markdown)
    try:
        draw(table, folder / "table.png")
        paths.append(folder / "table.png")
    except UserError as fault:
        print(f"{fault}: {fault.hint}", file=sys.stderr)
    if not quiet:
        print(*paths, sep="\n", file=sys.stderr)
    print(to_json(record, ensure_ascii=False) if as_json else markdown, end="\n" if as_json else "", flush=True)
