"""`jointnet evaluate compare`: a page for blind pairwise choice, the paper's user study (Table 4)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from jointnet_cli.cli.console import note, progress
from jointnet_cli.cli.options import OUTPUT_PANEL, Json, Quiet, option
from jointnet_cli.files.text import to_json

Folders = Annotated[
    list[str],
    typer.Argument(
        metavar="[NAME=]DIR", help="The folders of two or more methods' finished pictures.", show_default=False
    ),
]
Questions = Annotated[
    list[str] | None,
    option(
        "--question",
        metavar="TEXT",
        help="What is asked of every pair. Repeatable.",
        show_default="which is better overall, as the paper asks",
    ),
]
MatchOption = Annotated[
    Literal["auto", "name", "prompt", "order"],
    option("--match", help="By what pictures of different folders belong together."),
]


def compare(
    folders: Folders,
    *,
    question: Questions = None,
    match: MatchOption = "auto",
    maps: Annotated[bool, option("--maps/--no-maps", help="Show depth and normals below the images.")] = True,
    limit: Annotated[int | None, option("--limit", min=1, metavar="N", help="Ask about so many pairs.")] = None,
    seed: Annotated[
        int, option("--seed", min=0, metavar="N", help="Decides the order of the pairs and their sides.")
    ] = 0,
    quality: Annotated[
        int, option("--quality", min=1, max=100, metavar="N", help="Of JPEG; 100 keeps the pixels as they are (PNG).")
    ] = 100,
    out: Annotated[
        Path, option("--out", "-o", panel=OUTPUT_PANEL, metavar="DIR", help="Folder for the page and its key.")
    ] = Path("evaluation/compare"),
    overwrite: Annotated[
        bool, option("--overwrite/--no-overwrite", panel=OUTPUT_PANEL, help="Replace a page that exists, and its key.")
    ] = False,
    json_output: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a page on which people choose blindly between the results of methods (Table 4).

    One file that needs no network: open it in a browser, vote, save the votes as JSON. The key, which says what method
    made what, is a file of its own; `jointnet evaluate tally` needs both.
    """
    from jointnet_cli.evaluation.study import page as study
    from jointnet_cli.evaluation.study.page import differ, parse_methods, read_samples
    from jointnet_cli.evaluation.study.page import match as match_samples
    from jointnet_cli.files.paths import check_free

    methods = parse_methods(folders)
    check_free([out / study.PAGE, out / study.KEY], overwrite)
    samples = {name: read_samples(folder) for name, folder in methods.items()}
    groups, rule = match_samples(samples, match)
    for name, own in samples.items():
        if lone := len(own) - sum(name in group for group in groups):
            note(f"{name}: {lone} of {len(own)} pictures have no counterpart", quiet)
    if differing := sum(map(differ, groups)):
        note(f"{differing} of {len(groups)} items hold results of different prompts: the page shows the first", quiet)
    pairs = study.make_pairs(groups, seed=seed, limit=limit, maps=maps)
    questions = question or [study.default_question(pairs)]
    facts = {"seed": seed, "matched_by": rule, "methods": {name: str(folder) for name, folder in methods.items()}}
    with progress("writing the page", quiet) as advance:
        page, key = study.write_study(out, pairs, questions, facts, quality=quality, progress=advance)
    megabytes = page.stat().st_size / 1e6
    note(f"{len(pairs)} pairs of {len(groups)} items, matched by {rule}; {megabytes:.1f} MB", quiet)
    if json_output:
        line = {"page": str(page), "key": str(key), "pairs": len(pairs), "items": len(groups), "matched_by": rule}
        print(to_json(line))
    else:
        print(page, key, sep="\n")
