"""Formats of files, without knowledge of tasks and scenes."""
