"""Says in plain sentences what pydantic found wrong: which field, what is allowed, what came."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, TypeAdapter

MAX_SHOWN_CHARS = 40
"""Length at which a value is cut in a sentence."""
_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "finite_number": "a finite number",
    "bool": "true or false",
    "string": "a string",
    "bytes": "bytes",
    "list": "a list",
    "tuple": "a list",
    "dict": "an object",
    "model": "an object",
    "model_attributes": "an object",
    "path": "a path",
}
_TYPE_ERROR = re.compile(r"(\w+?)_(?:type|parsing|parsing_size|from_float|sub_type|unicode)")


def describe(
    errors: Iterable[Mapping[str, Any]], kind: type[Any] | TypeAdapter[Any] | None = None
) -> str:
    """Return what `ValidationError.errors()` found, as one sentence that names each field.

    `kind` is the model, or the adapter of a union of models, that did not fit: with it the sentence
    says which fields and which range are allowed.
    """
    parts = []
    for error in errors:
        if isinstance(kind, TypeAdapter) and not error["loc"]:
            tags = list(kind.core_schema["choices"])
            parts.append(f"type: {_unknown_type(error['input'].get('type'), tags)}")
            continue
        model, place = _locate(error, kind)
        what = what_is_wrong(error, model)
        parts.append(f"{'.'.join(place)}: {what}" if place else what)
    return "; ".join(parts)


def what_is_wrong(
    error: Mapping[str, Any], model: type[BaseModel] | None = None, *, show_value: bool = True
) -> str:
    """Return what one of pydantic's errors says, without the name of its field."""
    kind, context = error["type"], error.get("ctx", {})
    value = error.get("input")
    shown = f", not {_shown(value)}" if show_value else ""
    name = str(error["loc"][-1]) if error["loc"] else ""
    if kind == "extra_forbidden":
        return _unknown_field(name, [] if model is None else _names(model))
    if kind == "missing":
        return "this field is required"
    if kind in ("literal_error", "enum"):
        if name == "type":
            return _unknown_type(value, re.findall(r"'([^']*)'", context["expected"]))
        return f"must be {context['expected'].replace(chr(39), '')}{shown}"
    if kind in ("greater_than", "greater_than_equal", "less_than", "less_than_equal"):
        shown = f", not {str(value)[:MAX_SHOWN_CHARS]}" if show_value else ""
        return f"must be {_range(context, model, name)}{shown}"
    if kind in ("string_too_short", "string_too_long", "too_short", "too_long"):
        unit = "character" if kind.startswith("string") else "item"
        limits = _count(context, model, name, unit)
        return f"must have {limits}" + (f", not {_length(context, value)}" if show_value else "")
    if kind == "string_pattern_mismatch":
        return f"must match {context['pattern']}{shown}"
    if kind == "json_invalid":
        return f"this is not JSON: {context['error']}"
    if (match := _TYPE_ERROR.fullmatch(kind)) and match[1] in _TYPES:
        return f"must be {_TYPES[match[1]]}{shown}"
    if kind in _TYPES:
        return f"must be {_TYPES[kind]}{shown}"
    message: str = error["msg"]
    return message.removeprefix("Value error, ").replace("Input should be", "must be")


def close_to(name: str, known: Iterable[str], *, cutoff: float = 0.75) -> str | None:
    """Return the one of `known` that `name` is most likely a misspelling of, or None.

    `cutoff` is the least similarity, 0 to 1; underscores and case do not count.
    """
    plain = {each.replace("_", "").lower(): each for each in known}
    found = get_close_matches(name.replace("_", "").lower(), plain, n=1, cutoff=cutoff)
    return plain[found[0]] if found else None


def _locate(
    error: Mapping[str, Any], kind: type[Any] | TypeAdapter[Any] | None
) -> tuple[type[BaseModel] | None, list[str]]:
    """Return the model that the error is about, and the path to its field, outermost first."""
    loc = [part for part in error["loc"] if part not in ("body", "query")]
    if isinstance(kind, TypeAdapter):
        # pydantic puts the tag of the union's member before the field.
        kind = kind.core_schema["choices"][loc.pop(0)]["cls"]
    if error["type"] == "json_invalid":
        loc = []
    model = kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None
    for part in loc[:-1]:
        model = None if isinstance(part, int) or model is None else _model_of(model, part)
    return model, [str(part) for part in loc]


def _model_of(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    field = model.model_fields.get(name)
    found = field.annotation if field else None
    return found if isinstance(found, type) and issubclass(found, BaseModel) else None


def _names(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _unknown_field(name: str, known: list[str]) -> str:
    if not known:
        return "this field is not known"
    meant = close_to(name, known)
    guess = f"; did you mean {meant}?" if meant else ""
    return f"this field is not known{guess or '; allowed are ' + ', '.join(known)}"


def _unknown_type(value: object, known: Iterable[str]) -> str:
    what = "this field is required" if value is None else f"{_shown(value)} is not known"
    return f"{what}; there is: {', '.join(known)}"


def _bound(model: type[BaseModel] | None, name: str, bound: str) -> Any:
    """Return a bound (`ge`, `min_length`, …) of the field `name`, if it has one."""
    field = model.model_fields.get(name) if model else None
    if field is None:
        return None
    found = (getattr(each, bound, None) for each in (*field.metadata, *_metadata(field.annotation)))
    return next((each for each in found if each is not None), None)


def _metadata(annotation: Any) -> Iterator[Any]:
    """Yield the metadata inside an annotation, as in `Annotated[int, Field(ge=1)] | None`."""
    for part in get_args(annotation):
        yield from getattr(part, "metadata", ())
        yield from _metadata(part)


def _range(context: Mapping[str, Any], model: type[BaseModel] | None, name: str) -> str:
    bounds = {each: context.get(each) for each in ("gt", "ge", "lt", "le")}
    for each, given in bounds.items():
        if given is None:
            bounds[each] = _bound(model, name, each)
    gt, ge, lt, le = bounds.values()
    if ge is not None and le is not None:
        return f"{ge:g} to {le:g}" if isinstance(ge, float) else f"{ge} to {le}"
    low = f"at least {ge:g}" if ge is not None else f"more than {gt:g}" if gt is not None else ""
    high = f"at most {le:g}" if le is not None else f"less than {lt:g}" if lt is not None else ""
    return " and ".join(part for part in (low, high) if part)


def _count(context: Mapping[str, Any], model: type[BaseModel] | None, name: str, unit: str) -> str:
    low = context.get("min_length", _bound(model, name, "min_length"))
    high = context.get("max_length", _bound(model, name, "max_length"))
    if low and high:
        return f"{low} to {high} {unit}s"
    word, number = ("at most", high) if high is not None else ("at least", low)
    return f"{word} {number} {unit}{'' if number == 1 else 's'}"


def _length(context: Mapping[str, Any], value: object) -> object:
    if "actual_length" in context:
        return context["actual_length"]
    return len(value) if isinstance(value, str | bytes | list | dict) else "that many"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}…"
