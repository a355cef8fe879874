"""Criteria that select rows of a source, as data, and the SQL that counts and applies them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from jointnet_cli.data.settings import FilterSettings
from jointnet_cli.errors import UserError, closest


@dataclass(frozen=True)
class Criterion:
    """One bound in SQL, `{0}` in the place of its value, over the columns that it needs.

    `least` and `greatest` would pass over missing values; comparisons do not.
    """

    columns: tuple[str, ...]
    condition: str


SIZES = ("width", "height")

CRITERIA = {
    "side_above": Criterion(SIZES, "width > {0} AND height > {0}"),
    "watermark_below": Criterion(("watermark_score",), "watermark_score < {0}"),
    "aesthetic_above": Criterion(("aesthetic_score_laion_v2",), "aesthetic_score_laion_v2 > {0}"),
    "nsfw_below": Criterion(
        ("nsfw_score_opennsfw2", "nsfw_score_gantman"), "nsfw_score_opennsfw2 < {0} AND nsfw_score_gantman < {0}"
    ),
    "clip_above": Criterion(("clip_similarity_vitl14",), "clip_similarity_vitl14 > {0}"),
    "aspect_below": Criterion(SIZES, "width < {0} * height AND height < {0} * width"),
    "caption_above": Criterion(("caption",), "length(caption) > {0}"),
    "caption_below": Criterion(("caption",), "length(caption) < {0}"),
}

BOUNDED = frozenset(column for criterion in CRITERIA.values() for column in criterion.columns)
"""The columns that have bounds."""


def conditions(wanted: FilterSettings, columns: Collection[str]) -> dict[str, str]:
    """Return every bound in the order of the funnel, by the name that the funnel shows, as an SQL condition.

    Raises:
        UserError: a bound needs a column that the source has not.
    """
    found = {}
    for name, criterion in CRITERIA.items():
        bound = getattr(wanted, name)
        if bound is None:
            continue
        if criterion.columns == SIZES and not set(SIZES) & set(columns):
            continue  # such as a folder of images: the fetcher measures what comes
        check_columns(criterion.columns, columns, f"the filter {name}")
        found[f"{name} {bound:g}"] = criterion.condition.format(bound)
    check_columns(wanted.dedupe, columns, "dedupe")
    return found


def needed_columns(wanted: FilterSettings) -> frozenset[str]:
    """Return the columns that the bounds of a filter need."""
    asked = (criterion.columns for name, criterion in CRITERIA.items() if getattr(wanted, name) is not None)
    return frozenset(column for columns in asked for column in columns)


def check_columns(needed: Collection[str], columns: Collection[str], purpose: str) -> None:
    """Refuse a purpose that needs a missing column.

    Raises:
        UserError: with the nearest name and how to map it.
    """
    for name in needed:
        if name not in columns:
            guess = closest(name, columns) or "NAME"
            raise UserError(
                f"{purpose} needs a column {name}; the source has {', '.join(sorted(columns))}",
                hint=f"say which column it is with --columns {name}={guess}, or leave {purpose} out",
            )


def verdict(checks: Collection[str]) -> str:
    """Return SQL of the number of the first condition that a row fails, counted from 1; 0 for a row that passes all.

    A condition on a missing value is NULL in SQL and counts as failed.
    """
    cases = " ".join(f"WHEN ({check}) IS NOT TRUE THEN {number}" for number, check in enumerate(checks, 1))
    return f"CASE {cases} ELSE 0 END" if cases else "0"
