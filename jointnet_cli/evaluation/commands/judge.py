"""`jointnet evaluate judge` and `prompts`: the classifier of worlds, and the fixed prompts that it judges images of."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from jointnet_cli.evaluation.evaluation import Quiet
from jointnet_cli.files.paths import check_folder
from jointnet_cli.files.text import to_json
from jointnet_cli.params import INPUT_PANEL, OUTPUT_PANEL, Param

if TYPE_CHECKING:
    from jointnet_cli.evaluation.runner import Watch


@dataclass(frozen=True, kw_only=True)
class JudgeCommand:
    """Train the classifier that judges images of worlds, and measure it on held-out worlds.

    `--judge` of the tables takes its folder. Prints one JSON object.
    """

    name = "judge"
    example = "jointnet evaluate judge --training shards/worlds --held-out shards/evaluation --out runs/judge"

    training: Annotated[str, Param("Shards of the training set.", "DIR", panel=INPUT_PANEL)]
    held_out: Annotated[str, Param("Worlds of `jointnet prepare worlds --evaluation`.", "DIR", panel=INPUT_PANEL)]
    epochs: Annotated[int, Param("Passes over the training set.", "N", ge=1)] = 8
    limit: Annotated[int | None, Param("Use only the first images of the training set.", "N", ge=1)] = None
    out: Annotated[Path, Param("Folder of the classifier.", "DIR", panel=OUTPUT_PANEL, flag="--out -o", out=True)] = (
        Path("evaluation/judge")
    )
    quiet: Quiet = False

    def run(self, watch: Watch) -> int:
        """Train, save and print the facts."""
        check_folder(self.out)
        from jointnet_cli.evaluation.judge.classifier import load_labelled, train_judge

        training, held_out = load_labelled(self.training, self.limit), load_labelled(self.held_out, evaluation=True)
        with watch("training steps") as progress:
            judge = train_judge(training, held_out, epochs=self.epochs, progress=progress)
        judge.save(self.out)
        print(to_json(judge.facts, indent=2))
        return 0


@dataclass(frozen=True, kw_only=True)
class PromptsCommand:
    """List the 200 fixed prompts and what their images must show, as one JSON object."""

    name = "prompts"
    example = "jointnet evaluate prompts"

    quiet: Quiet = False

    def run(self, watch: Watch) -> int:
        """Print the prompts."""
        from jointnet_cli.evaluation.judge.prompts import fixed_prompts

        print(to_json({"prompts": [asdict(prompt) for prompt in fixed_prompts()]}, indent=2))
        return 0
