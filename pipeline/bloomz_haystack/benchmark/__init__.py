"""Measuring: corpora know no model, metrics know no corpus."""
