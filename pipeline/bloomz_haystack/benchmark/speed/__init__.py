"""Seconds and bytes: `harness` times ways of doing one thing, `sections` says which, `table` prints them."""
