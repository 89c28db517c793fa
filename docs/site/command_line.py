"""The verbs of `bloomz` -> their reference in Markdown, from what `--help` prints."""

import re
from collections.abc import Iterator
from typing import Any

import typer

from bloomz_haystack.cli.main import app

_TYPE = re.compile(r"<([^>]+)>")  # newer versions of typer name the type of Python


def reference() -> str:
    """Return a section for each verb: what it does, how it is called, its arguments and options."""
    group: Any = typer.main.get_command(app)
    return "\n".join(_verbs(group, group.context_class(group, info_name="bloomz")))


def _verbs(group: Any, context: Any) -> Iterator[str]:  # noqa: ANN401
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        own = command.context_class(command, info_name=name, parent=context)
        if hasattr(command, "list_commands"):
            yield from _verbs(command, own)
        elif not command.hidden:
            yield from _verb(command, own)


def _verb(command: Any, context: Any) -> Iterator[str]:  # noqa: ANN401
    yield f"## {context.command_path}\n\n{command.help}\n\n| option | |\n|---|---|"
    for parameter in command.get_params(context):
        if record := parameter.get_help_record(context):  # a hidden one has none
            name, text = (" ".join(part.split()) for part in record)
            if not name.startswith("--help"):
                text = text.replace("|", "\\|")  # in code it parts no cells
                yield f"| `{_TYPE.sub(_kind, name)}` | {text} |"
    yield ""


def _kind(found: re.Match[str]) -> str:
    """Return what stands for a value: nothing after an argument, whose name says it."""
    return "" if found[1] == "list[Path]" else {"path": "PATH"}.get(found[1], "TEXT")
