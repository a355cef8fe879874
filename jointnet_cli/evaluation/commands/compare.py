"""`jointnet evaluate compare` and `tally`: a page for blind pairwise choice and its votes, the paper's user study (Table 4)."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from rich.filesize import decimal as size_text

from jointnet_cli.evaluation.evaluation import Json, Quiet
from jointnet_cli.files.text import print_paths, to_json
from jointnet_cli.params import JSON, OUTPUT_PANEL, Param

if TYPE_CHECKING:
    from jointnet_cli.evaluation.runner import Watch


@dataclass(frozen=True, kw_only=True)
class CompareCommand:
    """Make a page on which people choose blindly between the results of methods (Table 4).

    One file that needs no network: open it in a browser, vote, save the votes as JSON. The key, which states the method of
    every image, is a file of its own; `jointnet evaluate tally` needs both.
    """

    name = "compare"
    example = "jointnet evaluate compare ours/ baseline=outputs/baseline"

    folders: Annotated[
        list[str],
        Param("Folders of finished images of two or more methods.", "[NAME=]DIR", shown=False, argument=True),
    ]
    questions: Annotated[
        list[str] | None,
        Param(
            "A question about every pair. Repeatable.",
            "TEXT",
            shown="which is better overall, as the paper asks",
            flag="--question",
        ),
    ] = None
    match: Annotated[
        Literal["auto", "name", "prompt", "order"], Param("How images of different folders are matched.")
    ] = "auto"
    maps: Annotated[bool, Param("Show depth and normals below the images.")] = True
    limit: Annotated[int | None, Param("Ask about so many pairs.", "N", ge=1)] = None
    seed: Annotated[int, Param("Decides the order of the pairs and their sides.", "N", ge=0)] = 0
    quality: Annotated[int, Param("Of JPEG; 100 keeps the pixels as they are (PNG).", "N", ge=1, le=100)] = 100
    out: Annotated[
        Path, Param("Folder for the page and its key.", "DIR", panel=OUTPUT_PANEL, flag="--out -o", out=True)
    ] = Path("evaluation/compare")
    overwrite: Annotated[bool, Param("Replace a page that exists, and its key.", panel=OUTPUT_PANEL)] = False
    json: Annotated[bool, JSON] = False
    quiet: Quiet = False

    def run(self, watch: Watch) -> int:
        """Write page and key."""
        from jointnet_cli.evaluation.study import page as study
        from jointnet_cli.files.paths import check_free

        methods = study.parse_methods(self.folders)
        check_free([self.out / study.PAGE, self.out / study.KEY], self.overwrite)
        samples = {name: study.read_samples(folder) for name, folder in methods.items()}
        groups, rule = study.match(samples, self.match)
        for name, own in samples.items():
            if lone := len(own) - sum(name in group for group in groups):
                self._note(f"{name}: {lone} of {len(own)} images have no counterpart")
        if differing := sum(map(study.differ, groups)):
            self._note(
                f"{differing} of {len(groups)} items hold results of different prompts: the page shows the first"
            )
        pairs = study.make_pairs(groups, seed=self.seed, limit=self.limit, maps=self.maps)
        questions = self.questions or [study.default_question(pairs)]
        facts = {
            "seed": self.seed,
            "matched_by": rule,
            "methods": {name: str(folder) for name, folder in methods.items()},
        }
        with watch("writing the page") as advance:
            page, key = study.write_study(self.out, pairs, questions, facts, quality=self.quality, progress=advance)
        self._note(f"{len(pairs)} pairs of {len(groups)} items, matched by {rule}; {size_text(page.stat().st_size)}")
        if self.json:
            counts = {"pairs": len(pairs), "items": len(groups), "matched_by": rule}
            print(to_json({"page": str(page), "key": str(key), **counts}))
        else:
            print_paths(page, key)
        return 0

    def _note(self, message: str) -> None:
        if not self.quiet:
            print(message, file=sys.stderr)


@dataclass(frozen=True, kw_only=True)
class TallyCommand:
    """Count the votes of a blind comparison: wins of every method, and of every two, with intervals (Table 4)."""

    name = "tally"
    example = "jointnet evaluate tally votes-*.json --key evaluation/compare/compare.key.json"

    votes: Annotated[list[Path], Param("Files that the page saved.", "VOTES", shown=False, argument=True)]
    key: Annotated[Path, Param("The key that was written beside the page.", "FILE", flag="--key -k")] = Path(
        "evaluation/compare/compare.key.json"
    )
    ties: Annotated[
        Literal["half", "drop"], Param("No difference is half a win for each side, or left out of the wins.")
    ] = "half"
    out: Annotated[
        Path,
        Param(
            "Folder of the tables; that of pairs is in pairs/.", "DIR", panel=OUTPUT_PANEL, flag="--out -o", out=True
        ),
    ] = Path("evaluation/tally")
    json: Json = False
    quiet: Quiet = False

    def run(self, watch: Watch) -> int:
        """Publish both tables."""
        from jointnet_cli.evaluation.figures import publish
        from jointnet_cli.evaluation.study.votes import methods_table, pairs_table, read_key, read_votes

        counted = read_votes(self.votes, read_key(self.key))
        publish(methods_table(counted, self.ties), self.out, as_json=self.json, quiet=self.quiet)
        publish(pairs_table(counted, self.ties), self.out / "pairs", as_json=self.json, quiet=self.quiet)
        return 0
