"""Measurements, each a module that prints a table and ends with one line of JSON. What they showed is in LOG.md."""
