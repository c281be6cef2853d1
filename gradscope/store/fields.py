"""Whether what a file holds is of the types that a record declares."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

Fits = Callable[[Any], bool]
_LARGEST = 2**63  # of whole numbers: larger ones fit into no column


def misfit(record: Any) -> str | None:
    """The first field of a dataclass whose value is not of its declared type; None where all are.

    Example:
        >>> from gradscope.records import NotObserved
        >>> misfit(NotObserved("a", "b")), misfit(NotObserved("a", 3))
        (None, 'why')
    """
    return next((name for name, fits in _fields(cast(Hashable, type(record))) if not fits(getattr(record, name))), None)


@cache
def _fields(kind: Hashable) -> tuple[tuple[str, Fits], ...]:
    hints = get_type_hints(kind)
    return tuple((each.name, _fitting(hints[each.name])) for each in fields(cast(Any, kind)))


def _fitting(hint: Any) -> Fits:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:  # another word may be a newer version's
        return lambda value: isinstance(value, type(arguments[0]))
    inner = [_fitting(each) for each in arguments if each is not ...]
    if origin in (Union, UnionType):
        return lambda value: any(fits(value) for fits in inner)
    if origin is tuple:
        return lambda value: isinstance(value, tuple) and all(map(inner[0], value))
    if origin is dict:  # a number in it may be null: JSON has no NaN
        return lambda value: (
            isinstance(value, dict)
            and all(map(inner[0], value))
            and all(v is None or inner[1](v) for v in value.values())
        )
    if is_dataclass(hint):
        return lambda value: type(value) is hint and misfit(value) is None
    if hint is float:
        return lambda value: isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return lambda value: type(value) is int and -_LARGEST <= value < _LARGEST
    if hint in (str, bool, type(None)):
        return lambda value: isinstance(value, hint)
    return lambda value: True
