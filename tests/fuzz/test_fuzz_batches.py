"""Damaged batch files: every row is refused in words or becomes an item."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.fuzzing import changed_record, damaged, read_batch, some
from hypothesis import given
from hypothesis import strategies as st

ROW: dict[str, Any] = {
    "prompt": "ocean reef",
    "seed": 3,
    "steps": 4,
    "guidance": 5.5,
    "negative-prompt": "fog",
    "depth": "a.png",
    "width": 512,
    "preset": "fast",
}


def table(delimiter: str) -> bytes:
    return "\n".join(delimiter.join(f'"{value}"' for value in line) for line in (ROW, ROW.values())).encode()


FILES = {
    "a.txt": "# words\nocean reef\n\nr\u00e9cif\r\nunder the sea".encode(),
    "a.csv": b"sep=;\n" + table(";"),
    "b.csv": "\ufeff".encode() + table(","),
    "a.tsv": table("\t"),
    "a.json": json.dumps([ROW, "ocean reef"]).encode(),
    "a.jsonl": "\n".join(map(json.dumps, [ROW, "ocean reef", ROW])).encode(),
    "wide.csv": table(",").decode().encode("utf-16"),
}


@pytest.mark.parametrize("name", FILES)
@some
@given(st.data())
def test_bytes(tmp_path_factory: pytest.TempPathFactory, name: str, draw: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(damaged(draw, FILES[name]))
    read_batch(path)


@some
@given(st.data())
def test_values(tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject) -> None:
    folder: Path = tmp_path_factory.getbasetemp()
    rows = [changed_record(draw, ROW), changed_record(draw, ROW)]
    (folder / "values.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "values.json").write_text(json.dumps(rows))
    for name in ("values.jsonl", "values.json"):
        read_batch(folder / name)
