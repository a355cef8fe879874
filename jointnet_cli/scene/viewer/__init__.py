"""A scene as one HTML file that works offline."""
