"""A scene as one page that shows itself in any browser, from disk and without a network."""

from jointnet_cli.output.viewer.page import write_viewer

__all__ = ["write_viewer"]
