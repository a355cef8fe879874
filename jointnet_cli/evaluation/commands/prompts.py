"""`jointnet evaluate prompts`: the fixed prompts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from jointnet_cli.evaluation.evaluation import Quiet
from jointnet_cli.files.text import to_json

if TYPE_CHECKING:
    from jointnet_cli.evaluation.runner import Watch


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
