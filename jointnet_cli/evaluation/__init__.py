"""Measurements of models: `jointnet evaluate NAME`."""
