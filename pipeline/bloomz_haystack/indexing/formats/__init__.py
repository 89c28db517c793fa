"""One file a format: bytes -> `Extract`. `texts.py` chooses among them."""
