"""Where prompts come from: the command line, a text file or stdin."""

from __future__ import annotations

import sys
from pathlib import Path

from jointnet_cli.cli.options import PromptOptions
from jointnet_cli.errors import UserError


def list_prompts(options: PromptOptions) -> list[str]:
    """The prompts to draw, in order, without the repeats of `--count`.

    Raises:
        UserError: no prompt, an empty one, both a prompt and `--prompts`, or a file that gives none.
    """
    if options.prompts is not None:
        if options.prompt is not None:
            raise UserError("a prompt and --prompts were both given", "leave one of them out")
        return _read_prompts(options.prompts)
    if options.prompt is None:
        raise UserError("no prompt", 'say what to draw, such as "ocean reef", or give --prompts FILE')
    if not options.prompt.strip():
        raise UserError("the prompt is empty", 'say what to draw, such as "ocean reef"')
    return [options.prompt.strip()]


def _read_prompts(source: str) -> list[str]:
    text = sys.stdin.read() if source == "-" else _read_text(Path(source))
    lines = [line.strip() for line in text.splitlines()]
    prompts = [line for line in lines if line and not line.startswith("#")]
    if not prompts:
        place = "stdin" if source == "-" else source
        raise UserError(f"no prompts in {place}", "write one prompt a line; blank lines and lines with # are skipped")
    return prompts


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(
            f"no file {path}", "--prompts takes a text file with one prompt a line, or - for stdin"
        ) from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder", "--prompts takes a text file with one prompt a line") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text", "save it as UTF-8, one prompt a line") from None
