"""Grammars: what a model may write. Pure: knows no model, no agent; meets the engine through `protocols`."""
