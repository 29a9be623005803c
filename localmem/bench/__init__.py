"""Measurements of a person's own model and functions. They give data and print nothing; `cli.bench` shows it."""
