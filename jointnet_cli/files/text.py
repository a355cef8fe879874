"""Text files in any Unicode encoding, and strict JSON."""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from jointnet_cli.errors import UserError


def to_json(
    value: Any, *, indent: int | None = None, ensure_ascii: bool = True, default: Callable[[Any], Any] | None = None
) -> str:
    """Encode a value as JSON, numbers that are not finite as null; arguments are those of `json.dumps`."""
    try:
        return json.dumps(value, indent=indent, ensure_ascii=ensure_ascii, default=default, allow_nan=False)
    except ValueError:  # a number that is not finite, which is rare
        plain = json.loads(json.dumps(value, default=default))
        return json.dumps(finite(plain), indent=indent, ensure_ascii=ensure_ascii, allow_nan=False)


def finite(value: Any) -> Any:
    """Return JSON values with `None` in place of every number that is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list | tuple) else value


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


PNG_KEY = "XML:com.adobe.xmp"
"""The keyword of the iTXt chunk in which a PNG holds XMP."""


def encodable(text: str) -> str:
    """Return the text without what UTF-8 cannot hold: file names that are not UTF-8 reach Python as lone surrogates."""
    return text.encode("utf-8", "replace").decode("utf-8")
