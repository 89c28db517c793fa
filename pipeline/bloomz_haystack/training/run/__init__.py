"""The one training loop and what it writes: `loop`, `log`, `state` (to resume), `checkpoint` and its model `card`."""
