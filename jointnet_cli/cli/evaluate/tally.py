"""`jointnet evaluate tally`: what people chose on the page of `jointnet evaluate compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from jointnet_cli.cli.options import OUTPUT_PANEL, Json, option


def tally(
    votes: Annotated[
        list[Path], typer.Argument(metavar="VOTES", help="Files that the page saved.", show_default=False)
    ],
    *,
    key: Annotated[
        Path, option("--key", "-k", metavar="FILE", help="The key that was written beside the page.")
    ] = Path("evaluation/compare/compare.key.json"),
    ties: Annotated[
        Literal["half", "drop"],
        option("--ties", help="No difference is half a win for each side, or left out of the wins."),
    ] = "half",
    out: Annotated[
        Path,
        option("--out", "-o", panel=OUTPUT_PANEL, metavar="DIR", help="Folder of the tables; that of twos in pairs/."),
    ] = Path("evaluation/tally"),
    json_output: Json = False,
) -> None:
    """Count the votes of a blind comparison: wins of every method, and of every two, with intervals (Table 4)."""
    from jointnet_cli.evaluation.figures import publish
    from jointnet_cli.evaluation.study.votes import methods_table, pairs_table, read_key, read_votes

    counted = read_votes(votes, read_key(key))
    publish(methods_table(counted, ties), out, as_json=json_output)
    publish(pairs_table(counted, ties), out / "pairs", as_json=json_output)
