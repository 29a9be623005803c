"""The bundled model with a LoRA to be trained: the file's weights, dequantised, and what makes a step on a CPU fast."""

from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


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
        """peft's linear layer, computed as one product, with merged weights."""

        def forward(self, x: Tensor) -> Any:
            if self.disable_adapters:
                return self.base_layer(x)
            a, b = self.lora_A["default"].weight, self.lora_B["default"].weight
            return MergedLinear.apply(x, self.base_layer.weight, a, b, self.scaling["default"])  # type: ignore[no-untyped-call]

    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules="all-linear", bias="none")
    adapted = get_peft_model(model, config, autocast_adapter_dtype=False)
    for module in adapted.modules():
        if isinstance(module, LoraLinear):
            assert module.base_layer.bias is None
            module.__class__ = Merging  # peft makes the layers; only their forward pass is another
    return adapted


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
