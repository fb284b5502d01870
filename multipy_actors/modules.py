"""Modules that are used where they are there, and need not be.

Guarantees: a module in whose import another thread is just now counts as not there. Nothing has been made
with it, and what is looked for may be missing.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def imported(name: str) -> Any:
    """Return the module of that name; None: it has not been imported, or not to its end."""
    module = sys.modules.get(name)
    return None if getattr(getattr(module, "__spec__", None), "_initializing", False) else module
