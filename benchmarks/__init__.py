"""Measurements, each a module that prints a table and ends with one line of JSON. What they showed is in LOG.md."""

# Before llama_cpp, whoever imports that first: the engine says how OpenMP's threads wait, which OpenMP reads only once.
import localmem.engine  # noqa: F401
