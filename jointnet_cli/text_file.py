"""Text of other people's files: captions, prompts, tables."""

from __future__ import annotations

import codecs

from jointnet_cli.errors import UserError

_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16's, which it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8-sig",
}


def marked_encoding(data: bytes) -> str | None:
    """Name the encoding of the byte-order mark that text begins with; `None` without a mark."""
    return next((name for mark, name in _MARKS.items() if data.startswith(mark)), None)


def decode_text(data: bytes, errors: str = "strict") -> str:
    """Decode UTF-8, or the encoding that a byte-order mark names, and remove the mark.

    Raises:
        UnicodeDecodeError: with `errors` "strict", bytes that are no text in that encoding.
    """
    return data.decode(marked_encoding(data) or "utf-8", errors)


def read_text(data: bytes, name: str) -> str:
    """Decode as `decode_text` does.

    Raises:
        UserError: bytes that are no text; `name` says what they are.
    """
    try:
        return decode_text(data)
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is not UTF-8 text", hint="save it as UTF-8") from error
