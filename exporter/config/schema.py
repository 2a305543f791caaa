"""Plain data into the fields of structs, collecting every mistake; and structs back into plain data.

A struct's annotations say all there is to know: the type, its bounds, what a mistake should say was expected
(``Meta.description``), and in ``Meta.extra`` the ``spelling`` of a value, the ``keys`` of a map, whether a
value is ``secret``.
"""

from collections.abc import Callable, Collection, Mapping
from functools import cache
from types import NoneType
from typing import Annotated, Any, Final, NamedTuple, get_args, get_origin, get_type_hints

import msgspec
from msgspec import UNSET, Struct

from exporter.config.mistakes import KeyPath, Mistakes, shown, unknown_key


_EMPTY: Final = msgspec.Meta()


class Spelling(NamedTuple):
    """How a value is written in the file.

    Attributes:
        parse: Reads it; raises ValueError with a sentence if it cannot.
        format: Writes it.
    """

    parse: Callable[[str], object]
    format: Callable[[Any], str] = str


def read(shape: object, value: object, path: KeyPath, mistakes: Mistakes) -> Any:  # noqa: ANN401
    """Check a value of the file.

    Args:
        shape: What is expected: a struct, or the annotation of a struct's field.
        value: Plain data.
        path: Where the value is.
        mistakes: Takes what is wrong.

    Returns:
        For a struct a dict of the fields that were given and are right; for a map and a list of structs
        likewise what is right; else the value, or UNSET if it is wrong.
    """
    if isinstance(shape, type) and issubclass(shape, Struct):
        return _read_struct(shape, value, path, mistakes)
    inner, meta = _unwrapped(shape)
    arguments = get_args(inner)
    if NoneType in arguments:
        return None if value is None else read(arguments[0], value, path, mistakes)
    if get_origin(inner) is Mapping:
        return _read_map(arguments[1], meta, value, path, mistakes)
    if get_origin(inner) is tuple:
        return _read_list(arguments[0], value, path, mistakes)
    return _read_leaf(shape, meta, value, path, mistakes)


def write(shape: object, value: object) -> Any:  # noqa: ANN401
    """Give a value as the file would hold it: plain data, durations and sizes spelled out.

    Args:
        shape: As for :func:`read`.
        value: A value of that shape.
    """
    if isinstance(shape, type) and issubclass(shape, Struct):
        return {name: write(hint, getattr(value, name)) for name, hint in _hints(shape).items()}
    inner, meta = _unwrapped(shape)
    arguments = get_args(inner)
    if value is None:
        return None
    if NoneType in arguments:
        return write(arguments[0], value)
    if isinstance(value, Mapping):
        return {key: write(arguments[1], item) for key, item in value.items()}
    if get_origin(inner) is tuple and isinstance(value, tuple):
        return [write(arguments[0], item) for item in value]
    spelling = _extra(meta).get("spelling")
    return spelling.format(value) if spelling else value


def _read_struct(shape: type[Struct], value: object, path: KeyPath, mistakes: Mistakes) -> dict[str, Any]:
    hints = _hints(shape)
    if value is None:
        value = {}
    if not isinstance(value, dict):
        mistakes.add(path, f"{_kind(value)} is given; expected a map with the keys {', '.join(hints)}")
        return {}
    _refuse_unknown(value, hints, path, mistakes)
    for field in msgspec.structs.fields(shape):
        if field.required and field.name not in value:
            mistakes.add(path, f"{field.name} is missing; expected {_description(hints[field.name])}")
    return _right(hints, value, path, mistakes)


def _read_map(
    item: object, meta: msgspec.Meta, value: object, path: KeyPath, mistakes: Mistakes
) -> dict[str, Any] | msgspec.UnsetType:
    if value is None:
        value = {}
    if not isinstance(value, dict):
        mistakes.add(path, f"{_kind(value)} is given; expected a map")
        return UNSET
    known = _extra(meta).get("keys", value)
    _refuse_unknown(value, known, path, mistakes)
    return _right(dict.fromkeys(known, item), value, path, mistakes)


def _refuse_unknown(
    value: dict[str, object], known: Collection[str], path: KeyPath, mistakes: Mistakes
) -> None:
    for key in value:
        if key not in known:
            mistakes.add(path, unknown_key(key, known), line=mistakes.line((*path, key)))


def _right(
    shapes: Mapping[str, object], value: dict[str, object], path: KeyPath, mistakes: Mistakes
) -> dict[str, Any]:
    """Read the known keys of a map, and keep what is right."""
    known = [key for key in value if key in shapes]
    found = {key: read(shapes[key], value[key], (*path, key), mistakes) for key in known}
    return {key: item for key, item in found.items() if item is not UNSET}


def _read_list(
    item: object, value: object, path: KeyPath, mistakes: Mistakes
) -> tuple[Any, ...] | msgspec.UnsetType:
    if value is None:
        value = []
    if not isinstance(value, list):
        mistakes.add(path, f"{_kind(value)} is given; expected a list")
        return UNSET
    found = tuple(read(item, part, (*path, index), mistakes) for index, part in enumerate(value))
    return UNSET if UNSET in found else found


def _read_leaf(shape: object, meta: msgspec.Meta, value: object, path: KeyPath, mistakes: Mistakes) -> object:
    if value is None and mistakes.within(path):
        return UNSET
    spelling = _extra(meta).get("spelling")
    # Numbers may spell a name as well as they may lack a unit; true and false spell nothing.
    spells = isinstance(value, str | int) and not isinstance(value, bool)
    try:
        return msgspec.convert(spelling.parse(str(value)) if spelling and spells else value, shape)
    except msgspec.ValidationError:
        named = "the value" if _extra(meta).get("secret") else shown(value)
        mistakes.add(path, f"{named} is not valid; expected {meta.description}")
    except ValueError as error:
        mistakes.add(path, str(error))
    return UNSET


@cache
def _hints(shape: type[Struct]) -> dict[str, object]:
    return get_type_hints(shape, include_extras=True)


def _unwrapped(shape: object) -> tuple[object, msgspec.Meta]:
    """Part an annotation into the type and what is said about it."""
    if get_origin(shape) is Annotated:
        inner, meta = get_args(shape)
        return inner, meta
    return shape, _EMPTY


def _extra(meta: msgspec.Meta) -> dict[str, Any]:
    return meta.extra or {}


def _description(shape: object) -> str:
    return _unwrapped(shape)[1].description or "a map"


def _kind(value: object) -> str:
    """Name the kind of a value, which may be a token that follows a colon without a space."""
    return {list: "a list", dict: "a map", str: "text", bool: "a boolean"}.get(type(value), "a number")
