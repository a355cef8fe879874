"""Votes of `compare`'s page, counted by method and by pair of methods."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from jointnet_cli.errors import UserError, reading, validation_error
from jointnet_cli.evaluation.report import Cell, Column, Estimate, Table
from jointnet_cli.evaluation.study.page import FORMAT
from jointnet_cli.files.text import load_json

Ties = Literal["half", "drop"]

Z95 = 1.959963984540054
"""The normal distribution's 97.5 % quantile."""


class VoteChoice(BaseModel):
    """One answer, as the page saves it."""

    pair: str
    question: int
    choice: Literal["left", "right", "tie"]
    seconds: float = 0.0


class BallotFile(BaseModel):
    """A file that the page saved."""

    format: int
    page: str
    session: str
    votes: list[VoteChoice]


class KeyPair(BaseModel):
    """The methods of a pair."""

    left: str
    right: str


class Key(BaseModel):
    """The file beside a page; it says more, of which the tally has no need."""

    format: int
    page: str
    questions: list[str]
    methods: dict[str, str]
    pairs: dict[str, KeyPair]


@dataclass(frozen=True)
class Vote:
    """One answer, by methods."""

    question: int
    methods: frozenset[str]
    winner: str | None
    """`None` for no difference."""
    side: str
    """What was chosen on the page: `left`, `right` or `tie`."""
    seconds: float

    def score(self, method: str) -> float:
        """Return 1 for a win, a half for a tie."""
        return 0.5 if self.winner is None else float(self.winner == method)


@dataclass(frozen=True)
class Votes:
    """All answers to a page."""

    key: Key
    votes: list[Vote]
    sessions: int


def read_key(path: Path) -> Key:
    """Read the key of a page.

    Raises:
        UserError: it is none, or of another format.
    """
    key = _read(path, Key, "`jointnet evaluate compare` writes it beside the page; --key names another")
    for pair in key.pairs.values():
        if not {pair.left, pair.right} <= key.methods.keys() or pair.left == pair.right:
            raise UserError(f"{path} names methods that it does not list", hint="take the key as compare wrote it")
    return key


def read_votes(paths: Iterable[Path], key: Key) -> Votes:
    """Read saved votes. Of files of one session, which was saved more than once, the one with the most votes counts.

    Raises:
        UserError: a file that holds no votes, or those of another page.
    """
    ballots: dict[str, BallotFile] = {}
    for path in paths:
        ballot = _read(path, BallotFile, "the button of the page saves votes-….json")
        if ballot.page != key.page:
            raise UserError(f"{path} holds votes of another page than the key's", hint="give that page's key")
        if any(vote.pair not in key.pairs or not 0 <= vote.question < len(key.questions) for vote in ballot.votes):
            raise UserError(f"{path} holds votes that the key does not know", hint="was it changed by hand?")
        former = ballots.get(ballot.session)
        if former is None or len(former.votes) < len(ballot.votes):
            ballots[ballot.session] = ballot
    votes = [_vote(key, choice) for ballot in ballots.values() for choice in ballot.votes]
    if not votes:
        raise UserError("the files hold no votes")
    return Votes(key, votes, len(ballots))


def wilson(successes: float, count: int) -> Estimate:
    """Return a share with its 95 % interval by Wilson's score; ties may make half successes."""
    if not count:
        return Estimate(math.nan, math.nan, math.nan, 0)
    share, z2 = successes / count, Z95**2 / count
    middle = (share + z2 / 2) / (1 + z2)
    reach = math.sqrt(z2 * share * (1 - share) + z2**2 / 4) / (1 + z2)
    return Estimate(share, max(0.0, middle - reach), min(1.0, middle + reach), count)


def methods_table(votes: Votes, ties: Ties = "half") -> Table:
    """Return how often each method won, whatever it was compared with."""
    rows = {name: (name,) for name in votes.key.methods}
    return _table("Blind pairwise choice: wins of every method", votes, rows, ties)


def pairs_table(votes: Votes, ties: Ties = "half") -> Table:
    """Return how often the first method of every two won against the second."""
    rows = {" over ".join(two): two for two in combinations(votes.key.methods, 2)}
    return _table("Blind pairwise choice: wins of the first method of every two", votes, rows, ties, better=None)


def _table(
    title: str,
    votes: Votes,
    rows: Mapping[str, tuple[str, ...]],
    ties: Ties,
    better: Literal["higher"] | None = "higher",
) -> Table:
    """Wins of a row's first method, ties and votes, for each question, where all of the row's methods were compared."""
    questions = votes.key.questions
    prefixes = [""] if len(questions) == 1 else [f"{question} " for question in questions]
    columns: list[Column] = []
    cells: dict[str, dict[str, Cell]] = {row: {} for row in rows}
    for number, prefix in enumerate(prefixes):
        columns += [
            Column(f"{prefix}wins", better, digits=1, percent=True),
            Column(f"{prefix}ties", digits=1, percent=True),
            Column(f"{prefix}votes", digits=0),
        ]
        for row, methods in rows.items():
            own = [vote for vote in votes.votes if vote.question == number and vote.methods.issuperset(methods)]
            tied = sum(vote.winner is None for vote in own)
            counted = [vote for vote in own if ties == "half" or vote.winner is not None]
            won = wilson(sum(vote.score(methods[0]) for vote in counted), len(counted))
            share = tied / len(own) if own else None
            cells[row] |= dict(zip((column.name for column in columns[-3:]), (won, share, len(own)), strict=True))
    return Table(title, tuple(columns), cells, _facts(votes, ties))


def _facts(votes: Votes, ties: Ties) -> dict[str, Any]:
    sides = Counter(vote.side for vote in votes.votes)
    decided = sides["left"] + sides["right"]
    return {
        "questions": votes.key.questions,
        "methods": votes.key.methods,
        "page": votes.key.page,
        "sessions": votes.sessions,
        "votes": len(votes.votes),
        "pairs": len(votes.key.pairs),
        "ties": "half a win for each side" if ties == "half" else f"left out of wins: {sides['tie']}",
        "intervals": "95 %, Wilson's score; every vote counts as independent of the others",
        "share of the left side among choices": round(sides["left"] / decided, 3) if decided else None,
        "median seconds a vote": round(median(vote.seconds for vote in votes.votes), 1),
    }


def _vote(key: Key, choice: VoteChoice) -> Vote:
    pair = key.pairs[choice.pair]
    winner = {"left": pair.left, "right": pair.right, "tie": None}[choice.choice]
    return Vote(choice.question, frozenset((pair.left, pair.right)), winner, choice.choice, choice.seconds)


Kind = TypeVar("Kind", BallotFile, Key)


def _read(path: Path, kind: type[Kind], hint: str) -> Kind:
    with reading(path, hint):
        try:
            found = kind.model_validate(load_json(path))
        except ValidationError as error:
            fault = error.errors()[0]
            message = validation_error(f"{path}: {'.'.join(map(str, fault['loc']))}", fault)
            raise UserError(str(message), hint) from error
    if found.format != FORMAT:
        raise UserError(f"{path}: format {found.format} is not known", hint="install a newer jointnet-cli")
    return found
