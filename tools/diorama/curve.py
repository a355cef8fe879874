"""Plot the training loss of a run over the samples that it has seen, and say what ten times more would give by its slope.

python tools/diorama/curve.py FOLDER/base --out curve.png
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
BINS = 24
DECADES = 2
"""Of samples that are shown; the slope is that of the last one."""


class Curve(NamedTuple):
    """Mean losses of stretches of a run that are equally long on a logarithmic axis, and a line through the last decade."""

    samples: Numbers
    losses: Numbers
    slope: float
    """Change of the loss with ten times the samples."""
    last: float
    """The last sample."""
    end: float
    """Loss of the line there."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run, with log.jsonl and recipe.json")
    parser.add_argument("--out", type=Path, default=Path("curve.png"), help="the plot (curve.png)")
    options = parser.parse_args(arguments)
    train = json.loads((options.run / "recipe.json").read_text())["train"]
    lines = [json.loads(line) for line in (options.run / "log.jsonl").read_text().splitlines()]
    points = [
        (line["step"] * train["batch_size"] * train["accumulation"], line["loss"]) for line in lines if "loss" in line
    ]
    curve = fit(np.array(points))
    plot(curve, options.out)
    facts = {
        "samples": int(curve.last),
        "loss": curve.end,
        "slope": curve.slope,
        "at ten times": curve.end + curve.slope,
    }
    print(json.dumps({name: round(value, 4) for name, value in facts.items()} | {"plot": str(options.out)}))


def fit(points: Numbers) -> Curve:
    """Return the curve of points (N, 2): samples seen and loss."""
    seen, loss = points.T
    edges = np.geomspace(max(seen[-1] / 10**DECADES, seen[0]), seen[-1], BINS + 1)[1:-1]
    bins = np.searchsorted(edges, seen)
    samples, losses = (np.array([part[bins == i].mean() for i in np.unique(bins)]) for part in (seen, loss))
    late = seen > seen[-1] / 10
    slope, offset = np.polyfit(np.log10(seen[late]), loss[late], 1)
    return Curve(samples, losses, float(slope), float(seen[-1]), float(offset + slope * np.log10(seen[-1])))


def plot(curve: Curve, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axes = figure.subplots()
    last = curve.last
    axes.plot(curve.samples, curve.losses, "o-", markersize=3)
    axes.plot([last / 10, last * 10], [curve.end - curve.slope, curve.end + curve.slope], "--")
    axes.set(xscale="log", xlabel="samples seen", ylabel="training loss")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
