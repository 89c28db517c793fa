"""A YAML file and a pydantic type -> a checked value, or one line that says where the file is wrong.

Knows nothing of what the values mean: limits and choices stand in the type.
"""

import difflib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

import yaml
from pydantic import TypeAdapter, ValidationError

Schema = TypeVar("Schema")
_WORDS = {
    "a valid integer": "a whole number",
    "a valid boolean": "true or false",
    "a valid string": "a text",
    "a valid number": "a number",
    "a valid array": "a list",
    "expected greater": "expected a number greater",
    "expected less": "expected a number less",
}


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads 1e-3, without a dot, as text: here it is a number, as in YAML 1.2."""


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+"), [*"-+0123456789"])


def load_yaml(path: Path, schema: type[Schema]) -> Schema:
    """Return what a YAML file holds, checked.

    :param path: of the file.
    :param schema: a pydantic model or pydantic dataclass; with `extra="forbid"` an unknown key is an error.
    :returns: an instance of it.
    :raises ValueError: in one line, with the file, the key, what was expected and what was got.
    """
    return check_values(read_yaml(path), schema, str(path))


def read_yaml(path: Path) -> Any:  # noqa: ANN401
    """Return what a YAML file holds, unchecked.

    :param path: of the file, in UTF-8.
    :returns: its value; an empty mapping for an empty file.
    :raises ValueError: in one line, if the file cannot be read.
    """
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506  # a safe loader
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    return {} if values is None else values


def check_values(values: object, schema: type[Schema], where: str) -> Schema:
    """Return values as an instance of a type.

    :param values: as YAML gives them.
    :param schema: as for `load_yaml`.
    :param where: named in the error, e.g. the file.
    :returns: an instance of the type.
    :raises ValueError: in one line, naming the first fault and how many more there are.
    """
    try:
        # As JSON, where "strict" means what YAML promises: a list fills a tuple and a mapping a dataclass, but 1 is no
        # `true` and "3" no number.
        return TypeAdapter(schema).validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise ValueError(f"{where}: {_fault(faults[0], schema)}{more}") from None


def _fault(error: Mapping[str, Any], schema: Any) -> str:  # noqa: ANN401
    """One fault, e.g. `systems.mine: unknown key 'poling' (did you mean 'pooling'?); known are label, kind`."""
    location, got = [part for part in error["loc"] if part != "[key]"], error["input"]
    if error["type"] in ("extra_forbidden", "missing", "unexpected_keyword_argument", "missing_argument"):
        key, place = location[-1], _dotted(location[:-1])
        if error["type"].startswith("missing"):
            return f"{place}lacks the key {key!r}"
        known = _keys(schema, location[:-1])
        near = difflib.get_close_matches(str(key), known, n=1)
        return f"{place}unknown key {key!r}{f' (did you mean {near[0]!r}?)' if near else ''}; known are " + (
            ", ".join(known)
        )
    if error["type"] in ("dataclass_type", "model_type", "dict_type"):
        known = _keys(schema, location)
        named = f" of {', '.join(known)}" if known else ""
        return f"{_dotted(location)}expected a mapping{named}, but got {_shown(got)}"
    if error["type"] == "value_error":
        return f"{_dotted(location)}{error['ctx']['error']}"
    message = error["msg"].replace("Input should be", "expected")
    for theirs, ours in _WORDS.items():
        message = message.replace(theirs, ours)
    return f"{_dotted(location)}{message}, but got {_shown(got)}"


def _dotted(location: list[str | int]) -> str:
    return ".".join(map(str, location)) + ": " if location else ""


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _keys(schema: Any, location: list[str | int]) -> list[str]:  # noqa: ANN401
    """The keys of the mapping at a place, as the type names them."""
    for part in location:
        fields = _fields(schema)
        if part in fields:
            schema = fields[part].annotation
        else:  # the key of a dict, the place in a list
            schema = [schema, *(kind for kind in get_args(_plain(schema)) if kind is not ...)][-1]
    return [str(key) for key in _fields(schema)]


def _plain(schema: Any) -> Any:  # noqa: ANN401
    """A type without what only qualifies it: `X` for `Annotated[X, ...]` and for `X | None`."""
    if get_origin(schema) is Annotated:
        return _plain(get_args(schema)[0])
    kinds = [kind for kind in get_args(schema) if kind is not type(None)]
    return _plain(kinds[0]) if type(None) in get_args(schema) and len(kinds) == 1 else schema


def _fields(schema: Any) -> dict[str | int, Any]:  # noqa: ANN401
    return dict(getattr(_plain(schema), "__pydantic_fields__", {}))
