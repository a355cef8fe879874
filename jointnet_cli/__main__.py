"""`python -m jointnet_cli` is `jointnet`."""

from __future__ import annotations

from jointnet_cli.cli import main

main()
