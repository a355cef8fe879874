"""Text files in any Unicode encoding, strict JSON, and text that a terminal cannot obey."""

from __future__ import annotations

import codecs
import errno
import json
import math
import os
import re
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

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


MOST_BYTES = 64 * 2**20
"""Bytes that a JSON, TOML or text file may have: several times the largest tokenizer."""

MOST_TABLE = 2**30
"""Bytes of a list of prompts or captions that the command line names."""


def open_regular(path: Path | str) -> BufferedReader:
    """Open a regular file, or a link to one, for reading bytes.

    Raises:
        UserError: a pipe, socket or device, which may never end.
        OSError: it cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if stat.S_ISREG(mode := os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise UserError(f"{path} is not a regular file")


def read_bytes(path: Path | str, most: int = MOST_BYTES, *, pipes: bool = False) -> bytes:
    """Return the bytes of a file that is read whole.

    Args:
        path: of a regular file.
        most: bytes at most.
        pipes: allow other files, too, such as `--prompts <(jq …)`: for what the command line names itself.

    Raises:
        UserError: no regular file, or more bytes.
        OSError: it cannot be read.
    """
    with Path(path).open("rb") if pipes else open_regular(path) as file:
        return read_stream(file, str(path), most)


def read_stream(stream: BinaryIO, name: str, most: int = MOST_BYTES) -> bytes:
    """Return what is left of a stream.

    Raises:
        UserError: more than `most` bytes.
    """
    piece = 2**20
    with suppress(OSError):  # a stream in memory
        piece += os.fstat(stream.fileno()).st_size
    pieces, left = list[bytes](), most + 1
    # Not all at once: Python takes the memory for as many bytes as are asked for.
    while left and (data := stream.read(min(piece, left))):
        pieces.append(data)
        left -= len(data)
    if not left:
        raise UserError(f"{name} has more than {most // 2**20} MiB")
    return b"".join(pieces)


def load_json(path: Path | str) -> Any:
    """Return the content of a JSON file.

    Raises:
        ValueError: as `from_json`.
        UserError, OSError: as `read_bytes`.
    """
    return from_json(read_bytes(path))


def load_object(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file; empty for a file that cannot be read or that holds no object.

    Raises:
        UserError: no regular file, or too large.
    """
    try:
        content = load_json(path)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def from_json(data: bytes | str) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: no JSON, no text, or lists nested too deeply.
    """
    try:
        return json.loads(decode_text(data) if isinstance(data, bytes) else data)
    except RecursionError as error:
        raise ValueError("lists or objects are nested too deeply") from error


PNG_KEY = "XML:com.adobe.xmp"
"""The keyword of the iTXt chunk in which a PNG holds XMP."""


def encodable(text: str) -> str:
    """Return the text without what UTF-8 cannot hold: file names that are not UTF-8 reach Python as lone surrogates."""
    return text.encode("utf-8", "replace").decode("utf-8")


UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufff9-\ufffb\ud800-\udfff]"
)
"""Controls of terminals (C0 without tab and line feed, DEL, C1), of direction and lines of text, and lone surrogates."""


def escaped(text: str) -> str:
    r"""Return text with every control character and lone surrogate as `\uXXXX`; tabs and line feeds stay.

    In JSON and in TOML this is an escape for the same character: what is printed parses to the same strings.
    """
    return UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def escaped_line(text: str) -> str:
    r"""Return text as `escaped` does and line feeds as `\n`, so that a name with one does not look like two lines."""
    return escaped(text).replace("\n", "\\n")


class _EscapedStream:
    """A text stream that escapes all text before it writes it."""

    def __init__(self, stream: Any) -> None:
        self.rich_proxied_file = stream
        """The stream itself; the name is rich's, whose consoles write their colours there."""

    def write(self, text: str) -> int:
        self.rich_proxied_file.write(escaped(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)


@contextmanager
def escaped_streams() -> Iterator[None]:
    """Escape everything that is printed on stdout and stderr: names and texts from outside may control a terminal."""
    before = sys.stdout, sys.stderr
    proxies: tuple[Any, Any] = _EscapedStream(sys.stdout), _EscapedStream(sys.stderr)
    sys.stdout, sys.stderr = proxies
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def unescaped(stream: Any) -> Any:
    """Return the stream behind the proxies of `escaped_streams` and of rich."""
    while (behind := getattr(stream, "rich_proxied_file", None)) is not None:
        stream = behind
    return stream


def warn(message: str, hint: str | None = None) -> None:
    """Print `warning: message` and, if there is one, `hint: …` on stderr, a line each; the command line has `note`."""
    lines = [f"warning: {escaped_line(message)}", *([f"hint: {escaped_line(hint)}"] if hint else [])]
    print(*lines, sep="\n", file=sys.stderr)


def print_paths(*paths: Path | str) -> None:
    """Print paths on stdout, one a line: for a terminal escaped, else the bytes that the file system has, for a pipe."""
    if sys.stdout.isatty():
        print("".join(f"{escaped_line(str(path))}\n" for path in paths), end="", flush=True)
    else:
        print("".join(f"{path}\n" for path in paths), end="", file=unescaped(sys.stdout), flush=True)
