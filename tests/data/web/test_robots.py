"""Spellings of X-Robots-Tag."""

from __future__ import annotations

import pytest

from jointnet_cli.data.settings import OPT_OUT
from jointnet_cli.data.web.robots import forbidding_directive


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], None),
        (["noai"], "noai"),
        (["all", " NoFollow , NOIMAGEAI"], "noimageai"),
        (["none"], "noindex"),
        (["nofollow, max-snippet: 20"], None),
        (["unavailable_after: 25 Jun 2010 15:00:00 PST, noindex"], "noindex"),
        (["unavailable_after: Sat, 25 Jun 2030 15:00:00 GMT, noai"], "noai"),
        (["Unavailable_After : Saturday, 25-Jun-30 15:00:00 GMT; noai"], "noai"),
        (["unavailable_after: 2030-06-25T15:00:00+02:00, noai"], "noai"),
        (["unavailable_after: Sat Jun 25 15:00:00 GMT+01:00 2030, noai"], "noai"),
        (["jointnet: unavailable_after: Sat, 25 Jun 2030 15:00:00 GMT, noai"], "noai"),
        (["otherbot: unavailable_after: Sat, 25 Jun 2030 15:00:00 GMT, noai"], None),
        (["max-image-preview: none; max-video-preview:-1, max-snippet:50"], None),
        (["max-image-preview:large,noai"], "noai"),
        (["somebot: noindex, noai"], None),
        (["somebot: noindex, *: noai"], "noai"),
        (["JointNet: noindex"], "noindex"),
        (["jointnet/0.2: noindex"], "noindex"),
        (["jointnet :noindex"], "noindex"),
        (["robots: noindex"], "noindex"),
        (["jointnetbot: noindex"], None),
        (["somebot: noindex", "noai"], "noai"),
        (["somebot: noindex; jointnet: noimageindex"], "noimageindex"),
        (["noindex;noai"], "noindex"),
        (["nofollow;noai"], "noai"),
        (["nofollow noai"], "noai"),
        (["nofollow\tnoai"], "noai"),
        (["nofollow|noai"], "noai"),
        (["nofollow,,noai,"], "noai"),
        (["'nofollow', \"noai\""], "noai"),
        (["no-ai"], "noai"),
        (["NO_IMAGE_AI"], "noimageai"),
        (["noai=1"], "noai"),
        (["noai:"], "noai"),
        (["noaid, xnoai, noindexing"], None),
    ],
)
def test_directives_that_forbid(values: list[str], expected: str | None) -> None:
    assert forbidding_directive(values, "jointnet", OPT_OUT) == expected
