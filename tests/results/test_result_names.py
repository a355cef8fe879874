"""Names of results: templates, and names that stay apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from jointnet_cli.errors import UserError
from jointnet_cli.names import FIELDS, are_distinct, check_template, keep_apart, result_name
from jointnet_cli.request import Request
from jointnet_cli.task_inputs import ImageFile
from jointnet_cli.tasks import Depth, Generate, Refine

REEF = Generate(prompt="Ocean reef", seed=5)


@pytest.mark.parametrize(
    ("request_", "template", "expected"),
    [
        (REEF, None, "00003_5_ocean-reef"),
        (Generate(prompt="Пляж 海"), None, "00003_0_пляж-海"),
        (Depth(prompt="a dog", seed=1), None, "00003_1_a-dog"),
        (Depth(source=Path("holiday/IMG 12.jpeg"), seed=1), None, "IMG 12"),
        (Refine(photo=ImageFile(Path("a.png"))), None, "00003_0_refined-a"),
        (REEF, "{prompt}", "ocean-reef"),
        (REEF, "{task}-{model}-{seed:04}-{{x}}", "generate-runs-mine-0005-{x}"),
        (REEF, "{image}", "untitled"),
        (REEF, "a:b?", "a_b_"),
        (Depth(source=Path("x/é.png"), prompt="sea"), "{image}_{prompt}_{index}", "é_sea_3"),
    ],
)
def test_names(request_: Request, template: str | None, expected: str) -> None:
    if template is not None:
        check_template(template)
    assert result_name(request_, 3, template, model="runs/mine") == expected


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{slug}", "--name has no field {slug}"),
        ("{seed.real}", "--name has no field {seed.real}"),
        ("{prompt[0]}", "--name has no field {prompt[0]}"),
        ("{}", "--name has an empty field {}"),
        ("{0}", "--name has no field {0}"),
        ("{seed", "cannot be read"),
        ("{seed:x y}", "cannot be read"),
        ("{seed!z}", "cannot be read"),
        ("a/{seed}", "without a folder"),
        ("", "is empty"),
        (" .", "is empty"),
    ],
)
def test_templates_that_are_refused(template: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        check_template(template)
    assert message in str(caught.value)
    if "field" in message:
        assert ", ".join(FIELDS) in (caught.value.hint or "")


def test_a_misspelt_field_has_a_hint() -> None:
    with pytest.raises(UserError) as caught:
        check_template("{promt}")
    assert (caught.value.hint or "").startswith("did you mean {prompt}? ")


def photos(*paths: str) -> list[Depth]:
    return [Depth(source=Path(path)) for path in paths]


def test_equal_names_are_kept_apart_also_without_regard_to_case() -> None:
    requests = photos("a/Sea.png", "b/sea.png", "c/SEA.jpg", "d/lake.png")
    names = keep_apart(requests, ["Sea", "sea", "SEA", "lake"], lambda name, request: None)
    assert names[0] == "Sea" and names[3] == "lake"
    assert len({name.casefold() for name in names}) == 4
    assert names[1].startswith("sea-") and names[2].startswith("SEA-")
    # A further photo, in whatever place, leaves the names of the others alone.
    more = keep_apart(
        photos("0/sea.png", "a/Sea.png", "b/sea.png"), ["sea", "Sea", "sea"], lambda name, _: name == "Sea" or None
    )
    assert more[1:] == names[:2] and more[0].startswith("sea-")


def test_repeats_of_one_request_are_counted() -> None:
    names = keep_apart([REEF, REEF, REEF], ["x", "x", "x"], lambda name, request: None)
    assert names[0] == "x" and names[2] == f"{names[1]}-2"


SEAS = [Generate(prompt=prompt, seed=98 + 3 * row) for row, prompt in enumerate(["sea 1", "the sea"])]


@pytest.mark.parametrize(
    ("template", "one_row", "rows"),
    [
        (None, True, True),
        ("{index}", True, True),
        ("{index:03}-{seed}", True, True),
        ("{index}{prompt}", True, True),
        ("{prompt}_{seed}", True, True),
        ("{prompt}{seed}", True, True),
        ("{prompt}{index}{seed:03}", True, True),
        ("{seed}_{task}", True, False),
        ("{seed}0", True, False),
        ("{task}", False, False),
        ("{prompt}", False, False),
        ("{seed:x}_{prompt}", False, False),
        ("{seed:5}{index}_{prompt}", False, False),
        ("x" * 160 + "{seed}", False, False),
    ],
)
def test_names_that_differ_need_no_comparison(template: str | None, one_row: bool, rows: bool) -> None:
    for first, known in ((SEAS[:1], one_row), (SEAS, rows)):
        assert are_distinct(first, 3, template) == known
        batch = [replace(row, seed=row.seed + item) for row in first for item in range(3)]
        names = {result_name(request, index, template).casefold() for index, request in enumerate(batch)}
        assert len(names) == len(batch) or not known


def test_rows_that_differ_in_digits_alone_are_compared() -> None:
    assert not are_distinct([replace(REEF, prompt="sea 1"), replace(REEF, prompt="sea 2")], 2, "{prompt}{seed}")
    assert are_distinct([REEF, replace(REEF, prompt="Lake")], 1, "{prompt}")
    assert not are_distinct([REEF, replace(REEF, prompt="ocean REEF")], 1, "{prompt}")
    assert are_distinct(photos("sea.png", "lake.png")) and not are_distinct(photos("a/Sea.png", "b/sea.jpg"))
