"""Pools without interpreters: everything runs in the host, on the caller's thread."""
