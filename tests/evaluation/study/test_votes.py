"""Votes counted: against closed forms and by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from jointnet_cli.cli import app
from jointnet_cli.evaluation.report import Estimate
from jointnet_cli.evaluation.study.votes import Z95, methods_table, pairs_table, read_key, read_votes, wilson

PAIRS = {
    "p0": ("ours", "baseline"),
    "p1": ("baseline", "ours"),
    "p2": ("ours", "third"),
    "p3": ("third", "baseline"),
}


def write_key(folder: Path, *questions: str) -> Path:
    key = {
        "format": 1,
        "page": "page",
        "seed": 0,
        "methods": {"ours": "a", "baseline": "b", "third": "c"},
        "questions": questions or ["Better?"],
        "pairs": {name: {"item": "x", "left": left, "right": right} for name, (left, right) in PAIRS.items()},
    }
    path = folder / "compare.key.json"
    path.write_text(json.dumps(key))
    return path


def write_votes(folder: Path, session: str, votes: list[tuple[str, int, str]], **changed: Any) -> Path:
    ballot = {
        "format": 1,
        "page": "page",
        "session": session,
        "participant": "",
        "votes": [{"pair": pair, "question": question, "choice": choice, "seconds": 2} for pair, question, choice in votes],
        "finished": True,
    }  # fmt: skip
    path = folder / f"votes-{session}-{len(votes)}.json"
    path.write_text(json.dumps({**ballot, **changed}))
    return path


@pytest.fixture
def ballots(tmp_path: Path) -> list[Path]:
    """Ours wins 2, loses 1 and ties 1 of 4 against the baseline, and wins 1 of 1 against the third, which ties the baseline."""
    first = [("p0", 0, "left"), ("p1", 0, "left"), ("p2", 0, "left"), ("p3", 0, "tie")]
    return [
        write_votes(tmp_path, "a", first),
        write_votes(tmp_path, "b", [("p0", 0, "tie"), ("p1", 0, "right")]),
    ]


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    # Wilson's interval in Newcombe (1998), Table I; and 8 of 10.
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (8, 10, 0.4902, 0.9433),
    ],
)
def test_wilson_s_interval_is_the_published_one(successes: int, count: int, low: float, high: float) -> None:
    found = wilson(successes, count)
    assert (found.value, found.count) == (successes / count, count)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 400), st.floats(0, 1))
def test_wilson_s_bounds_are_where_the_score_test_turns(count: int, share: float) -> None:
    found = wilson(share * count, count)
    assert 0 <= found.low <= share + 1e-9 and share - 1e-9 <= found.high <= 1
    for bound in (found.low, found.high):
        assert (share - bound) ** 2 == pytest.approx(Z95**2 * bound * (1 - bound) / count, abs=1e-9)


def test_no_votes_have_no_share() -> None:
    assert math.isnan(wilson(0, 0).value) and wilson(0, 0).count == 0


def test_wins_are_those_counted_by_hand(tmp_path: Path, ballots: list[Path]) -> None:
    votes = read_votes(ballots, read_key(write_key(tmp_path)))
    methods, pairs = methods_table(votes).rows, pairs_table(votes).rows
    assert methods["ours"] == {"wins": wilson(3.5, 5), "ties": 1 / 5, "votes": 5}
    assert methods["baseline"] == {"wins": wilson(2, 5), "ties": 2 / 5, "votes": 5}
    assert methods["third"] == {"wins": wilson(0.5, 2), "ties": 1 / 2, "votes": 2}
    assert pairs["ours over baseline"] == {"wins": wilson(2.5, 4), "ties": 1 / 4, "votes": 4}
    assert pairs["ours over third"]["wins"] == wilson(1, 1)
    assert pairs["baseline over third"] == {"wins": wilson(0.5, 1), "ties": 1.0, "votes": 1}


def test_ties_can_be_left_out(tmp_path: Path, ballots: list[Path]) -> None:
    votes = read_votes(ballots, read_key(write_key(tmp_path)))
    table = pairs_table(votes, "drop")
    assert table.rows["ours over baseline"] == {"wins": wilson(2, 3), "ties": 1 / 4, "votes": 4}
    empty = table.rows["baseline over third"]["wins"]
    assert isinstance(empty, Estimate) and empty.count == 0
    assert table.facts["ties"] == "left out of wins: 2" and methods_table(votes).facts["ties"].startswith("half")


def test_facts_tell_what_the_table_rests_on(tmp_path: Path, ballots: list[Path]) -> None:
    facts = methods_table(read_votes(ballots, read_key(write_key(tmp_path)))).facts
    assert (facts["sessions"], facts["votes"], facts["pairs"], facts["median seconds a vote"]) == (2, 6, 4, 2)
    assert facts["share of the left side among choices"] == 0.75


def test_every_question_has_its_columns(tmp_path: Path) -> None:
    path = write_votes(tmp_path, "a", [("p0", 0, "left"), ("p0", 1, "right"), ("p1", 0, "right"), ("p1", 1, "tie")])
    votes = read_votes([path], read_key(write_key(tmp_path, "Real?", "Deep?")))
    row = pairs_table(votes).rows["ours over baseline"]
    assert row["Real? wins"] == wilson(2, 2) and row["Deep? wins"] == wilson(0.5, 2) and row["Deep? ties"] == 0.5
    assert [column.name for column in methods_table(votes).columns if column.better] == ["Real? wins", "Deep? wins"]


def test_votes_saved_twice_count_once(tmp_path: Path, ballots: list[Path]) -> None:
    early = write_votes(tmp_path, "a", [("p0", 0, "right")])
    key = read_key(write_key(tmp_path))
    once, twice = read_votes(ballots, key), read_votes([early, *ballots, ballots[0], early], key)
    assert twice.sessions == 2 and sorted(map(repr, twice.votes)) == sorted(map(repr, once.votes))


def tally(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", "tally", *map(str, arguments)])


def test_the_command_prints_and_writes_both_tables(tmp_path: Path, ballots: list[Path]) -> None:
    key, out = write_key(tmp_path), tmp_path / "out"
    ran = tally(*ballots, "--key", key, "--out", out)
    assert ran.exit_code == 0, ran.stderr
    assert "| ours | **70.0%** [" in ran.stdout and "| ours over baseline | 62.5% [" in ran.stdout
    for folder in (out, out / "pairs"):
        assert {path.name for path in folder.iterdir()} - {"pairs"} == {"table.json", "table.md", "table.png"}
    lines = tally(*ballots, "--key", key, "--out", out, "--json", "--ties", "drop").stdout.splitlines()
    assert [json.loads(line) for line in lines] == [
        json.loads((folder / "table.json").read_text()) for folder in (out, out / "pairs")
    ]


def test_tables_are_not_written_to_stdout(tmp_path: Path, ballots: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ran = tally(*ballots, "--key", tmp_path / "key", "--out", "-")
    assert ran.exit_code == 2 and "--out" in ran.stderr and not (tmp_path / "-").exists(), ran.stderr


def test_faults(tmp_path: Path, ballots: list[Path]) -> None:
    key = write_key(tmp_path)
    whole = [("p0", 0, "left")]
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    for arguments, words in [
        ([tmp_path / "none.json", "--key", key], "does not exist"),
        ([broken, "--key", key], "cannot be read"),
        ([ballots[0], "--key", ballots[0]], "questions"),
        ([write_votes(tmp_path, "o", whole, page="other"), "--key", key], "another page"),
        ([write_votes(tmp_path, "q", [("p0", 1, "left")]), "--key", key], "does not know"),
        ([write_votes(tmp_path, "w", [("p0", 0, "up")]), "--key", key], "votes.0.choice"),
        ([write_votes(tmp_path, "f", whole, format=2), "--key", key], "format 2"),
        ([write_votes(tmp_path, "e", []), "--key", key], "no votes"),
    ]:
        ran = tally(*arguments, "--out", tmp_path / "out")
        assert ran.exit_code == 2 and words in ran.stderr and "Traceback" not in ran.stderr
    assert not (tmp_path / "out").exists()
