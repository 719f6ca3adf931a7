"""Heads and tracks in the browser: ``n2f view``. What is shown is plain Python; only ``server`` knows viser."""
