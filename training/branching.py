"""Branches in one pass: what could have stood at several places of a text, each computed as if it stood there.

Behind the text, its trunk, come rows of so many tokens, each packed with branches. A token of the trunk sees what
stands before it, as ever; one of a branch sees the trunk up to the branch's place, and the branch. So attention is two
products: of the trunk with itself, and of the rows with the trunk and themselves.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from training.records import Record

#: Tokens of a row. Shorter ones waste more of their ends, longer ones more products of branches with other branches.
_ROW = 256


def laid_out(record: Record) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A record with branches, as a model that attends by `attend` reads it.

    Ids and positions, of shape (1, tokens); the places of its choices, in the order of the record; and which tokens
    those of the rows see, of shape (rows, 1, row, trunk + row).
    """
    trunk = record.trunk
    starts, size = _packed(record)
    rows = -(-size // _ROW)
    ids, positions = np.zeros(trunk + rows * _ROW, np.int64), np.arange(trunk + rows * _ROW)
    ids[:trunk] = record.tokens[:trunk]
    moved = np.arange(len(record.tokens))
    seen = torch.zeros(rows, 1, _ROW, trunk + _ROW, dtype=torch.bool)
    own = torch.eye(_ROW, dtype=torch.bool)
    seen[:, 0, :, trunk:] = own  # what stands between branches sees itself, for something has to be seen
    for (start, end, at), place in zip(record.branches.tolist(), starts, strict=True):
        to, length = trunk + place, end - start
        ids[to : to + length] = record.tokens[start:end]
        positions[to : to + length] = np.arange(at, at + length)
        moved[start:end] = np.arange(to, to + length)
        row, first = divmod(place, _ROW)
        seen[row, 0, first : first + length, :at] = True
        here = slice(trunk + first, trunk + first + length)
        seen[row, 0, first : first + length, here] = torch.ones(length, length, dtype=torch.bool).tril_()
    return torch.from_numpy(ids)[None], torch.from_numpy(moved[record.chosen]), torch.from_numpy(positions)[None], seen


def _packed(record: Record) -> tuple[list[int], int]:
    """Where in the rows each branch begins, none across the end of a row; and how many tokens that takes."""
    starts, size = [], 0
    for start, end, _ in record.branches.tolist():
        length = end - start
        if size % _ROW + length > _ROW:
            size += -size % _ROW
        starts.append(size)
        size += length
    return starts, size


def attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """What transformers calls an attention function. `attention_mask` is what `laid_out` says is seen, or None."""
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
