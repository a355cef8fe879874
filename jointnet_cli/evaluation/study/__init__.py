"""A blind comparison of methods by people."""
