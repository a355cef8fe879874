"""Read `X-Robots-Tag`, in all the spellings in which servers send it."""

from __future__ import annotations

import re
from collections.abc import Iterable

_VALUED = frozenset({"unavailableafter", "maxsnippet", "maximagepreview", "maxvideopreview"})
"""Directives with a value after a colon. What precedes any other colon is the name of a robot."""

_EVERY_ROBOT = ("*", "robots")

_SEPARATORS = re.compile(r"[\s,;|\"'=()\[\]]+")

_AGENT = re.compile(r"([a-z*][^:]*):([a-z*].*|)")
"""A robot's name and the directive after it: the colons of times (`15:00:00`, `gmt+01:00`) precede a digit."""


def forbidding_directive(values: Iterable[str], robot: str, directives: Iterable[str]) -> str | None:
    """Return the first of `directives` that the values of `X-Robots-Tag` set for `robot`; `None` if there is none.

    A value such as `noai, noimageai` is for every robot; `somebot: noindex, noai` for the one that it names, up to the next
    name; `*: noai` for every one. Directives are separated by commas, semicolons, bars or spaces. Case, quotes, hyphens and
    underscores do not matter. `none` means noindex as well.
    """
    wanted = {_plain(directive): directive.lower() for directive in directives}
    no_robots = _VALUED | wanted.keys()
    for value in values:
        addressed = True
        for item in _SEPARATORS.split(re.sub(r"\s*:\s*", ":", value.lower())):
            while (named := _AGENT.fullmatch(item)) and _plain(named[1]) not in no_robots:
                addressed, item = named[1].partition("/")[0] in (*_EVERY_ROBOT, robot.lower()), named[2]
            name = _plain(item.partition(":")[0])
            name = "noindex" if name == "none" else name
            if addressed and name in wanted:
                return wanted[name]
    return None


def _plain(name: str) -> str:
    return re.sub(r"[-_.]", "", name)
