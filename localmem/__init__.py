"""localmem: a fully offline agent with long-term memory on small open models."""
