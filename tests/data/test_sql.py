from __future__ import annotations

from pathlib import Path

import pytest

from jointnet_cli.data.sql import connect
from jointnet_cli.errors import UserError


def test_a_folder_that_duckdb_takes_for_settings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"folder with \? in its name: .*q\?x/work\.db$"):
        connect(tmp_path / "q?x" / "work.db")
