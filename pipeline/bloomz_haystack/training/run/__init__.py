"""One run from its first step to its checkpoint: `loop`, `distributed`, `state` (to resume), `log`, `calibration`, and
what is kept: `checkpoint` and `card`.
"""
