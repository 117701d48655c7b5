"""Payloads as values of a dataclass, and dataclasses as results."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
import typing
from typing import Any, Callable

from .errors import Never

_PLAIN = (str, int, float, bool, bytes, type(None))
_UNIONS = (typing.Union, types.UnionType)


def typed(kind: type, handler: Callable[..., Any]) -> Callable[[Any], Any]:
    """`handler(task, value)` as a handler of a task: `value` is the payload as a `kind`, a
    dataclass. A payload that is none fails for good (`bad_payload`, with the field's name); fields
    that `kind` does not have are passed over. ValueError for a class whose fields cannot be read
    from a payload."""
    _check(kind, kind.__name__)

    def run(task: Any) -> Any:
        return plain(handler(task, read(kind, task.payload, "payload")))

    return run


def plain(value: Any) -> Any:
    """Dataclasses as the maps of their fields, in lists and dicts, too; every other value as it
    is."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def read(kind: Any, value: Any, where: str) -> Any:
    """`value` as a `kind` that _check() has let through."""
    origin, inner = typing.get_origin(kind) or kind, typing.get_args(kind)
    if kind is Any:
        return value
    if origin in _UNIONS:
        return _read_any(inner, value, where)
    if dataclasses.is_dataclass(kind):
        return _read_fields(kind, value, where)
    if origin is float and isinstance(value, int) and not isinstance(value, bool):
        return _float(value, where)
    if not isinstance(value, origin) or (isinstance(value, bool) and origin is not bool):
        raise _wrong(where, _name(kind), value)
    if isinstance(value, list) and inner:
        return [read(inner[0], item, f"{where}[{at}]") for at, item in enumerate(value)]
    if isinstance(value, dict) and inner:
        return {
            read(inner[0], key, f"a key of {where}"): read(inner[1], item, f"{where}.{key}")
            for key, item in value.items()
        }
    return value


def _read_any(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    failures = []
    for kind in kinds:
        try:
            return read(kind, value, where)
        except Never as failure:
            failures.append(failure)
    raise failures[0]


def _read_fields(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise _wrong(where, f"a map with the fields of {kind.__name__}", value)
    hints = _hints(kind)
    given = {}
    for field in dataclasses.fields(kind):
        if not field.init:
            continue
        if field.name in value:
            given[field.name] = read(hints[field.name], value[field.name], f"{where}.{field.name}")
        elif _is_needed(field):
            raise Never("bad_payload", f"{where}.{field.name} is missing")
    try:
        return kind(**given)
    except (TypeError, ValueError) as error:  # its own check, in __post_init__
        raise Never("bad_payload", f"{where}: {error}") from error


def _float(value: int, where: str) -> float:
    try:
        return float(value)
    except OverflowError:
        raise _wrong(where, "float", value) from None


def _wrong(where: str, wanted: str, value: Any) -> Never:
    return Never("bad_payload", f"{where} must be {wanted}, not {value!r:.100}")


@functools.lru_cache(maxsize=None)
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _is_needed(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _check(kind: Any, where: str, above: tuple[Any, ...] = ()) -> None:
    """ValueError unless read() knows what to do with a `kind`, named `where`."""
    origin, inner = typing.get_origin(kind) or kind, typing.get_args(kind)
    if kind is Any or kind in _PLAIN or kind in above:
        return
    if origin in _UNIONS or origin in (list, dict):
        for part in inner:
            _check(part, where, above)
    elif isinstance(kind, type) and dataclasses.is_dataclass(kind):
        _check_fields(kind, where, above)
    else:
        raise ValueError(
            f"{where} is a {_name(kind)}, which no payload holds: use str, int, float, bool, bytes, "
            "list, dict, Optional and dataclasses of these"
        )


def _check_fields(kind: type, where: str, above: tuple[Any, ...]) -> None:
    try:
        hints = _hints(kind)
    except NameError as error:
        raise ValueError(f"{where}: {error}; the classes of its fields must stand in its module") from None
    names = [field.name for field in dataclasses.fields(kind) if field.init]
    for name in inspect.signature(kind).parameters:
        if name not in names:
            raise ValueError(f"{where}.{name} is no field, but is needed to make one")
    for name in names:
        _check(hints[name], f"{where}.{name}", (*above, kind))


def _name(kind: Any) -> str:
    return getattr(kind, "__name__", str(kind))
