"""One file a format: bytes -> ``Extract``. ``reading.py`` chooses among them."""
