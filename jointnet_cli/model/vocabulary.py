"""Closed vocabularies: the only words that a small text encoder was trained on."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from jointnet_cli.files.atomic import write_text
from jointnet_cli.files.text import decode_text, read_bytes

FILE = "words.txt"
"""Beside the tokenizer's files, one word or mark a line; a model without it knows all words."""

MOST = 4096
"""An encoder trained on more words than these makes sense of others by their pieces, and gets no list."""

_PIECE = re.compile(r"[^\W_]+(?:'[^\W_]+)*|[^\w\s]|_")
"""A word or number, with what an apostrophe joins to it, or a single mark."""


@dataclass(frozen=True)
class Vocabulary:
    """A closed vocabulary: lower-case words, numbers and marks. A noun known in one number alone is read in the other too."""

    known: frozenset[str]

    @classmethod
    def of(cls, texts: Iterable[str]) -> Vocabulary | None:
        """Return what texts are made of; `None` if that is more than `MOST`."""
        known: set[str] = set()
        for text in texts:
            known.update(_pieces(text))
            if len(known) > MOST:
                return None
        return cls(frozenset(known))

    @classmethod
    def read(cls, folder: Path) -> Vocabulary | None:
        """Return the list in a tokenizer's folder, if there is one."""
        path = folder / FILE
        return cls(frozenset(decode_text(read_bytes(path)).split())) if path.is_file() else None

    def write(self, folder: Path) -> None:
        """Write the list into a tokenizer's folder."""
        write_text(folder / FILE, "\n".join(sorted(self.known)) + "\n")

    @property
    def words(self) -> list[str]:
        """The words and numbers without the marks, in alphabetical order."""
        return sorted(piece for piece in self.known if piece[0].isalnum())

    def unknown(self, *texts: str) -> list[str]:
        """Return the words of texts that are not in the list, each once, in their order; marks do not count."""
        pieces = (piece for text in texts for piece in _pieces(text))
        return list(dict.fromkeys(piece for piece in pieces if self.read_as(piece) is None and piece[0].isalnum()))

    def keep(self, text: str) -> str:
        """Return the text as it is read: without words that are not in the list and marks that then separate nothing."""
        pieces = _pieces(text)
        if self.known.issuperset(pieces):
            return text
        kept: list[str] = []
        for piece in filter(None, map(self.read_as, pieces)):
            if piece[0].isalnum() or (kept and kept[-1][0].isalnum()):
                kept.append(piece)
        if kept and not kept[-1][0].isalnum():
            kept.pop()
        return " ".join(kept)

    def read_as(self, word: str) -> str | None:
        """Return the word of the list that a word stands for: itself, its singular or plural; `None` if there is neither."""
        return next((form for form in (word, *_other_numbers(word)) if form in self.known), None)


def _pieces(text: str) -> list[str]:
    """Return words, numbers and marks, as CLIP's tokenizer writes them: composed and in lower case."""
    return _PIECE.findall(unicodedata.normalize("NFC", text).lower())


def _other_numbers(word: str) -> list[str]:
    """Return what the singular or the plural of an English word may be, neither shorter than three letters."""
    endings = [("ies", "y"), ("es", ""), ("s", ""), ("y", "ies"), ("", "es"), ("", "s")]
    forms = [word.removesuffix(end) + other for end, other in endings if word.endswith(end)]
    return [form for form in forms if min(len(form), len(word)) >= 3]
