"""`jointnet evaluate tally`: what people chose on the page of `jointnet evaluate compare`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from jointnet_cli.evaluation.evaluation import Json, Quiet
from jointnet_cli.params import OUTPUT_PANEL, Param

if TYPE_CHECKING:
    from jointnet_cli.evaluation.runner import Watch


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
        Path, Param("Folder of the tables; that of pairs is in pairs/.", "DIR", panel=OUTPUT_PANEL, flag="--out -o")
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
