"""What a caller gives a component or a store -> checked at the door, and read back for YAML."""

import inspect
from pathlib import Path
from typing import Any, SupportsIndex

LARGEST_COUNT = 2**32  # beyond 64 bits Qdrant Edge takes no number


def check_count(name: str, number: object) -> None:
    """Refuse anything but a positive whole number.

    :param name: of the argument, for the message.
    :param number: what the caller gave.
    :raises TypeError: if it is not an integer.
    :raises ValueError: if it is not positive, or larger than any store.
    """
    if isinstance(number, bool) or not isinstance(number, SupportsIndex):
        raise TypeError(f"{name} must be an integer, but got {number!r:.80} of type {type(number).__name__}")
    if not 0 < number.__index__() <= LARGEST_COUNT:
        bound = "> 0" if number.__index__() <= 0 else f"at most {LARGEST_COUNT}"
        raise ValueError(f"{name} must be {bound}, but got {number}")


def check_items(name: str, items: object, kind: type, advice: str = "", error: type[Exception] = TypeError) -> None:
    """Refuse anything but a list of one kind.

    :param name: of the argument, for the message.
    :param items: what the caller gave.
    :param kind: what each item must be.
    :param advice: what to do instead, a sentence.
    :param error: raised if it is something else.
    """
    if not isinstance(items, list):
        got = type(items).__name__
    elif strangers := {type(item).__name__ for item in items if not isinstance(item, kind)}:
        got = f"a list that holds {', '.join(sorted(strangers))}"
    else:
        return
    raise error(f"{name} must be a list of {kind.__name__}s, but got {got}{advice and f'. {advice}'}")


def init_parameters(instance: object) -> dict[str, Any]:
    """Return every parameter of `__init__`, in types that YAML can write.

    :param instance: keeps each parameter as an attribute of the same name.
    :returns: values by name.
    """
    names = list(inspect.signature(type(instance).__init__).parameters)[1:]
    return {name: _plain(getattr(instance, name)) for name in names}


def _plain(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    # a torch.dtype by its name, without importing torch
    return str(value) if isinstance(value, Path) or type(value).__module__ == "torch" else value
