"""`bloomz`, and `python -m bloomz_haystack`."""

from bloomz_haystack.cli.signals import leave_at_once_when_stopped


def main() -> None:
    """Run the command line; Ctrl-C is quiet from here on, also while it is still being imported."""
    leave_at_once_when_stopped()
    from bloomz_haystack.cli import main as cli

    cli.main()


if __name__ == "__main__":
    main()
