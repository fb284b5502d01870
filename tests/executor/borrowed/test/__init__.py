"""Stands before this Python's own `test` package where that lacks executor tests; see cpython_tests.py."""

import cpython_tests

__path__ = cpython_tests.search_path()
