"""A module that imports one which only the interpreters of a pool know."""

from __future__ import annotations


def use(value):
    import registered_for_packages

    return registered_for_packages.twice(value)
