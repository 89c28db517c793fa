"""`bloomz store`: reads arguments, calls `stored`, prints."""

import sys
from typing import Annotated

import typer

from bloomz_haystack.cli.arguments import TEXT, JsonOption, StoreOption, check_store
from bloomz_haystack.cli.errors import SETTINGS, one_line_errors, say
from bloomz_haystack.cli.signals import clean_up_when_stopped
from bloomz_haystack.files.printable import printable

store_verbs = typer.Typer(help="Look into a store, or remove some of what it holds.", **SETTINGS)


@store_verbs.command()
def info(store: StoreOption, json: JsonOption = False) -> None:
    """Show the model, the number of passages and files, and the size of a store."""
    with one_line_errors(stopped="nothing was changed"):
        check_store(store)
        from bloomz_haystack.cli.output import print_json, print_lines
        from bloomz_haystack.files.printable import counted
        from bloomz_haystack.indexing.stored import store_facts
        from bloomz_haystack.store_folder import StoreFolder

        clean_up_when_stopped()
        known = store_facts(StoreFolder(store))
        if json:
            print_json(known.as_json())
            return
        searched = "by words (BM25) and by vectors" if known.hybrid else "by vectors"
        lines = [
            f"store {known.store}",
            f"model {known.model or 'not known'}",
            f"{counted(known.passages, 'passage')} in {counted(known.files, 'file')}",
            f"{known.bytes / 1e6:,.1f} MB on disk",
            f"vectors of {known.embedding_dim} numbers, {known.datatype}; searched {searched}",
        ]
        print_lines(lines)


@store_verbs.command("list")
def list_files(store: StoreOption, json: JsonOption = False) -> None:
    """List the files whose passages a store holds: passages, a tab, file."""
    with one_line_errors(stopped="nothing was changed"):
        check_store(store)
        from bloomz_haystack.cli.output import print_json, print_lines
        from bloomz_haystack.indexing.stored import count_by_file
        from bloomz_haystack.store_folder import StoreFolder

        clean_up_when_stopped()
        with StoreFolder(store).opened() as documents:
            counts = count_by_file(documents)
        if json:
            print_json({"store": str(store), "files": [file._asdict() for file in counts]})
            return
        aligned = max((len(str(passages)) for _, passages in counts), default=0) * sys.stdout.isatty()
        print_lines((str(passages).rjust(aligned), file or "(of no file)") for file, passages in counts)


@store_verbs.command()
def remove(
    store: StoreOption,
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE", help="Files and folders, also those that are gone.", show_default=False),
    ] = None,
    filter_: Annotated[
        str | None,
        typer.Option("--filter", help="Haystack filter in JSON, in place of files.", show_default=False, **TEXT),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: JsonOption = False,
) -> None:
    """Remove the passages of files, or those that match a filter; their number is named first."""
    with one_line_errors(stopped="nothing was changed"):
        check_store(store)
        if bool(files) == bool(filter_):
            raise ValueError("name the files to remove, or give a --filter: one of the two")
        from bloomz_haystack.cli.output import print_json, print_lines
        from bloomz_haystack.files.printable import counted
        from bloomz_haystack.indexing.stored import files_named, of_files, read_filter
        from bloomz_haystack.store_folder import StoreFolder

        clean_up_when_stopped()
        with StoreFolder(store).opened() as documents:
            meant = {name: of for given in files or [] for name, of in files_named(documents, given).items()}
            names = sorted(meant)
            filters = read_filter(filter_) if filter_ else of_files(meant.values())
            found = counted(documents.count_documents_by_filter(filters), "passage")
            found += f" of {counted(len(names), 'file')}" if names else ""
            if not yes and not _confirmed(f"remove {found} from the store at {store}"):
                say("nothing was removed")
                raise typer.Exit(1)
            removed = documents.delete_by_filter(filters)
            left = documents.count_documents()
        if json:
            print_json({"store": str(store), "removed": removed, "passages": left, "files": names})
        else:
            print_lines([f"{found} removed, {counted(left, 'passage')} left"])


def _confirmed(what: str) -> bool:
    if not (sys.stdin and sys.stdin.isatty()):
        raise ValueError(f"this would {what}: add --yes to do it")
    return typer.confirm(printable(f"bloomz: {what}?"), err=True)
