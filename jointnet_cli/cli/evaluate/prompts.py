"""The prompts that evaluations draw."""

from __future__ import annotations

from typing import Annotated

from jointnet_cli.cli.options import PROMPT_PANEL, option

Prompts = Annotated[
    str | None,
    option(
        "--prompts",
        panel=PROMPT_PANEL,
        metavar="FILE|-",
        help="A prompt a line (`.txt`), or a column `prompt` (`.csv`, `.jsonl`); `-` reads stdin.",
        show_default="embedded ones",
    ),
]


def listed_prompts(source: str | None, count: int | None = None) -> list[str]:
    """The prompts of a file, or of the fixed ones `count`, spread evenly, or all, so that the first ones are of all biomes.

    Raises:
        UserError: a file that cannot be read, or a row of it without a prompt.
    """
    from jointnet_cli.cli.rows import read_rows
    from jointnet_cli.errors import UserError
    from jointnet_cli.evaluation.judge.prompts import OBJECTS, fixed_prompts, spread_evenly

    if source is None:
        fixed = [prompt.text for prompt in fixed_prompts()]
        turns = len(fixed) // len(OBJECTS)
        mixed = [text for turn in range(turns) for text in fixed[turn::turns]]
        return mixed if count is None else spread_evenly(fixed, count)
    rows = read_rows(source)
    if lacking := next((row.place for row in rows if not str(row.values.get("prompt", "")).strip()), None):
        raise UserError(f"{lacking}: no prompt", hint="the column is called prompt")
    return [str(row.values["prompt"]).strip() for row in rows]
