"""What is seen of a download while it runs."""

from __future__ import annotations

import re
from collections import Counter

from jointnet_cli.cli.prepare_output import live, rates
from jointnet_cli.data.job import IMAGES, Tally

MADE = Counter({IMAGES: 840})
FAILED = Counter(http_404=90, timeout_connect=40, not_an_image=20, connection_reset=6, http_503=4)


def test_speed_success_and_the_commonest_failures() -> None:
    tally = Tally(total=2000, made=MADE, failed=FAILED, received=3_000_000)
    tally.started -= 10
    words = rates(tally)
    assert re.match(r"\d+ images/s, \d+\.\d kB/s, 84% succeeded, http_404 90, timeout_connect 40,", words), words
    assert "http_503" not in words


def test_a_narrow_terminal_sees_all_of_it(monkeypatch, capsys) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    with live("into shards") as show:
        show(Tally(total=2000, made=MADE, failed=FAILED))
    seen = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().err)
    assert "1000/2000 -:--:--" in seen, seen
    for words in ("images/s", "84% succeeded", "timeout_connect 40", "connection_reset 6"):
        assert words in " ".join(seen.split()), words


def test_what_is_no_terminal_sees_nothing(capsys) -> None:
    with live("into shards") as show:
        show(Tally(total=2, made=MADE))
    assert capsys.readouterr().err == ""
