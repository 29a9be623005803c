"""The bundled model with a LoRA to be trained: the file's weights, dequantised, and what makes a step on a CPU fast."""

from __future__ import annotations

import os
import shutil
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from localmem.models.iq4_nl import rounded


def base_file() -> Path:
    """The GGUF file of the bundled model, as it was fetched."""
    from localmem.config import Paths, load_config
    from localmem.models.files import place

    return place(load_config().model("smollm2-135m").source, Paths.default())


def load_base(gguf: Path) -> Any:
    """The model of a GGUF file, dequantised, as transformers knows it."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(str(gguf.parent), gguf_file=gguf.name, dtype=torch.bfloat16)


def with_lora(model: Any, *, rank: int, alpha: int) -> Any:
    """The model with a LoRA on all its linear layers but the vocabulary's."""
    from peft import LoraConfig, get_peft_model
    from peft.tuners.lora import Linear as LoraLinear

    class Merging(LoraLinear):  # type: ignore[misc]
        """peft's linear layer, computed as one product, with merged weights.

        `base_off` are the base's weights, off by the rounding error of the merged ones; None: as they are.
        """

        base_off: Tensor | None = None

        def forward(self, x: Tensor) -> Any:
            if self.disable_adapters:
                return self.base_layer(x)
            weight = self.base_layer.weight if self.base_off is None else self.base_off
            a, b = self.lora_A["default"].weight, self.lora_B["default"].weight
            return MergedLinear.apply(x, weight, a, b, self.scaling["default"])  # type: ignore[no-untyped-call]

    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules="all-linear", bias="none")
    adapted = get_peft_model(model, config, autocast_adapter_dtype=False)
    for module in adapted.modules():
        if isinstance(module, LoraLinear):
            assert module.base_layer.bias is None
            module.__class__ = Merging  # peft makes the layers; only their forward pass is another
    return adapted


#: Layers whose weights the merged file of the bundled model holds as IQ4_NL. What Q8_0 rounds away, bfloat16 does too.
ROUNDED = ("mlp.gate_proj", "mlp.up_proj")


def round_weights(adapted: Any) -> None:
    """From now on, let the layers that a merged file holds coarsely be off by what rounding makes of them as they are.

    The LoRA then learns to make good for it. A rounding error hardly changes in a few steps, and to find it takes as
    long as one: so this is called now and then. Gradients pass by the rounding (a straight-through estimator).
    """
    layers = [module for name, module in adapted.named_modules() if name.endswith(ROUNDED)]

    @torch.no_grad()  # which holds for one thread
    def round_one(layer: Any) -> None:
        weight, a, b = (part.weight for part in (layer.base_layer, layer.lora_A["default"], layer.lora_B["default"]))
        merged = torch.addmm(weight.float(), b.float(), a.float(), alpha=layer.scaling["default"])
        base_off = weight.float() + (torch.from_numpy(rounded(merged.numpy())) - merged)
        if layer.base_off is None:
            layer.base_off = base_off.to(weight.dtype)
        else:
            layer.base_off.copy_(base_off)  # in its place, for which the layer is compiled

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(round_one, layers))


class MergedLinear(torch.autograd.Function):
    """x (W + scale B A)^T; only A and B get a gradient.

    To add to the weights costs less than two more products of the activations, which are several times larger. The
    sum is of the weights' type: in bfloat16, a change below its resolution is seen only once it has grown.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
        merged = torch.addmm(weight, b, a, alpha=scale)
        ctx.save_for_backward(x, merged, a, b)
        ctx.scale = scale
        return nn.functional.linear(x, merged)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, merged, a, b = ctx.saved_tensors
        rows, inputs = grad.flatten(0, -2), x.flatten(0, -2)
        grad_a = (rows @ b).t() @ inputs * ctx.scale
        grad_b = rows.t() @ (inputs @ a.t()) * ctx.scale
        return grad @ merged, None, grad_a, grad_b, None


def compile_layers(model: Any) -> None:
    """Fuse what stands between the products, a fifth of a step, if there is what torch compiles with."""
    python_h = Path(sysconfig.get_path("include")) / "Python.h"
    if shutil.which(os.environ.get("CXX") or "g++") is None or not python_h.exists():
        print("note: no C++ compiler or no Python headers: a step takes a quarter longer")
        return
    for layer in model.get_base_model().model.layers:
        layer.compile(dynamic=True)  # each by itself: they are alike, and so one compilation serves all
