"""What a call shares with its caller, and what each side has for itself.

Problem: memory that is shared is what this package is for, and a trap for code that was written for
processes. A tensor is known to be memory; the user of a data frame or an estimator relies on what its library
promises, that what is done to one object is not seen in another.

Model: a *level* says how a call's arguments and its results are sent:

- "arrays", the default: tensors, arrays and large buffers are shared, wherever they are, but not those inside
  an object whose library promises value semantics (`protected_bases`)
- "all": those too
- "nothing": everything is copied, as processes do

A pool has a level, an actor may have another, and so may a call. `copy=True` is short for "nothing",
`copy=False` for "arrays". The level of a call travels with it, as its result is sent alike.

What is copied is copied once, by its sender, before `submit` returns or the outcome is told. A receiver that
is not the only one makes a copy of that (see `SharedTensor.must_be_copied`), so the replicas of an actor do
not share it either.

pyarrow's tables, polars' frames, and boosters of xgboost and LightGBM need no protection: they pickle
themselves into bytes.

Threads: any; no state. No library is imported: what is not imported has no objects.

Rejected: protecting what any class keeps in its attributes. An object that holds an array is the usual way to
share it, and a torch module is made to have its weights in memory once.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # importing typing would take longer than all of this
if TYPE_CHECKING:
    from typing import Literal

    Share = Literal["arrays", "all", "nothing"]

__all__ = ["ALL", "ARRAYS", "NOTHING", "chosen_level", "protected_bases"]

ARRAYS: Share = "arrays"
ALL: Share = "all"
NOTHING: Share = "nothing"

of_this_pool: Share = ARRAYS  # in an interpreter: the level of the pool it belongs to

# Classes whose instances are values, and whose arrays are therefore not to be shared: module and name.
_VALUES = (
    ("pandas.core.generic", "NDFrame"),
    ("pandas.core.indexes.base", "Index"),
    ("pandas.core.arrays.base", "ExtensionArray"),
    ("sklearn.base", "BaseEstimator"),
)


def protected_bases() -> tuple[type, ...]:
    """Return the classes whose instances, and those of their subclasses, are sent as copies."""
    found = []
    for module, name in _VALUES:
        home = sys.modules.get(module)
        base = None if home is None else getattr(home, name, None)
        if base is not None:
            found.append(base)
    return tuple(found)


def chosen_level(share: object, copy: object, default: Share) -> Share:
    """Return the level that the options `share` and `copy` choose; ValueError if they make no sense."""
    if copy is not None:
        if not isinstance(copy, bool):
            raise ValueError(f"option 'copy' must be True or False, not {copy!r}")
        if share is not None:
            raise ValueError("the options 'share' and 'copy' say the same: give one of them")
        return NOTHING if copy else ARRAYS
    for level in (ARRAYS, ALL, NOTHING):
        if share == level:
            return level
    if share is not None:
        raise ValueError(f'option \'share\' must be "arrays", "all" or "nothing", not {share!r}')
    return default
