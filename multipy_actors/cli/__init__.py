"""The commands of `python -m multipy_actors`."""
