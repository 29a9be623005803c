"""Branches in one pass: what could have stood at several places of a text, each computed as if it stood there.

Behind the text, its trunk, come rows of as many tokens each, packed with branches. A token of the trunk sees what
stands before it, as ever; one of a branch sees the trunk up to the branch's place, and the branch. So attention is two
products: of the trunk with itself, and of the rows with the trunk and themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from training.records import Record

#: Tokens of a row, unless a branch has more. Shorter ones waste more of their ends, longer ones more products of
#: branches with other branches.
_ROW = 256


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a model reads at once: `ids`, of shape (texts, tokens); flat `places` before each choice, and `weights` of
    choices. Of one text with branches, also the `positions` of its tokens, of the same shape, and which tokens those in
    the rows behind its trunk attend to: `seen`, of shape (rows, 1, row, trunk + row)."""

    ids: Tensor
    places: Tensor
    weights: Tensor
    positions: Tensor | None = None
    seen: Tensor | None = None


def laid_out(record: Record) -> Inputs:
    """A record with branches, for a model that attends by `attend`."""
    trunk, length = record.trunk, max(_ROW, *(record.branches[:, 1] - record.branches[:, 0]))
    starts = _packed(record, length)
    rows = starts[-1] // length + 1
    ids, positions = np.zeros(trunk + rows * length, np.int64), np.arange(trunk + rows * length)
    ids[:trunk] = record.tokens[:trunk]
    moved = np.arange(len(record.tokens))
    seen = torch.zeros(rows, 1, length, trunk + length, dtype=torch.bool)
    seen[:, 0, :, trunk:] = torch.eye(length, dtype=torch.bool)  # so that what stands between branches sees something
    for (start, end, at), place in zip(record.branches.tolist(), starts, strict=True):
        to, size = trunk + place, end - start
        ids[to : to + size] = record.tokens[start:end]
        positions[to : to + size] = np.arange(at, at + size)
        moved[start:end] = np.arange(to, to + size)
        row, first = divmod(place, length)
        own = seen[row, 0, first : first + size]
        own[:, :at] = True
        own[:, trunk + first : trunk + first + size] = torch.ones(size, size, dtype=torch.bool).tril_()
    places, weights = torch.from_numpy(moved[record.chosen] - 1), torch.from_numpy(record.weights)
    return Inputs(torch.from_numpy(ids)[None], places, weights, torch.from_numpy(positions)[None], seen)


def _packed(record: Record, length: int) -> list[int]:
    """Where in rows of so many tokens each branch begins, none across the end of a row."""
    starts, free = [], 0
    for start, end, _ in record.branches.tolist():
        if free % length + end - start > length:
            free += -free % length
        starts.append(free)
        free += end - start
    return starts


def attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """What transformers calls an attention function. `attention_mask` is what is `seen`, or None."""
    if attention_mask is None:
        found: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, None, **options)
        return found
    rows, _, row, keys = attention_mask.shape
    trunk = keys - row
    given: dict[str, Any] = {"scale": options.get("scaling"), "enable_gqa": True}
    first = [part[:, :, :trunk] for part in (query, key, value)]
    stem = scaled_dot_product_attention(first[0], first[1], first[2], is_causal=True, **given)
    q, k, v = (
        part[0, :, trunk:].reshape(-1, rows, row, part.shape[-1]).transpose(0, 1) for part in (query, key, value)
    )
    k = torch.cat([first[1].expand(rows, -1, -1, -1), k], dim=2)
    v = torch.cat([first[2].expand(rows, -1, -1, -1), v], dim=2)
    ends = scaled_dot_product_attention(q, k, v, attn_mask=attention_mask, **given)
    both = torch.cat([stem, ends.transpose(0, 1).flatten(1, 2)[None]], dim=2)
    return both.transpose(1, 2).contiguous(), None


def attend_branching(model: Any) -> None:
    """Let the model attend by `attend`."""
    AttentionInterface.register("branching", attend)
    model.set_attn_implementation("branching")
