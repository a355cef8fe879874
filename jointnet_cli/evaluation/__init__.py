"""Measurements of a trained model: `python -m jointnet_cli.evaluation NAME`."""
