"""Pools: their interpreters, how they begin and end, and the default one."""
