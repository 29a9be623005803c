"""Models: where their files are, fetching them, what a GGUF file says, and how much memory it takes.

`files` knows the places, `fetch` the network (and nothing else in localmem does), `gguf` the format, `merged` the files
with an adapter in them, `ram` the sizes, `machine` what there is to run on.
Nothing here runs a model.
"""

from localmem.models.files import check, locate, locate_embedder, place, pull, waits_for_merging
from localmem.models.gguf import GGUFInfo, read_gguf
from localmem.models.machine import available_ram, graphics_card, physical_cores
from localmem.models.merged import merges
from localmem.models.ram import (
    choose_n_ctx,
    fitting_context,
    human,
    kv_bytes_per_token,
    memory_estimate,
    spare_cells,
)

__all__ = [
    "GGUFInfo",
    "available_ram",
    "check",
    "choose_n_ctx",
    "fitting_context",
    "graphics_card",
    "human",
    "kv_bytes_per_token",
    "locate",
    "locate_embedder",
    "memory_estimate",
    "merges",
    "physical_cores",
    "place",
    "pull",
    "read_gguf",
    "spare_cells",
    "waits_for_merging",
]
