"""External context: what an agent keeps outside the window, in one DuckDB file and the caches derived from it."""
