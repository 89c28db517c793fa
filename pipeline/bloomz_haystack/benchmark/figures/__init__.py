"""Ranks -> figures: `metrics`, their `significance`, and `abstention`. Knows neither models nor corpora."""
