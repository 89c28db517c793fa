"""``python -m bloomz_haystack`` is ``bloomz``."""

from bloomz_haystack.cli import main

if __name__ == "__main__":
    main()
