# pyright: reportMissingImports=false, reportMissingTypeStubs=false
# torch is in an extra that not every checkout has.
"""Writes a trained seedling as a model folder that mlx_lm loads: float16, Llama names, tokenizer and template with it.

Knows files; does not judge what it writes: the folder is marked as a stand-in, whose verdicts never count.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.seedling.weights import describe

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

NOTICE = "These words come from a seedling that is being taught: they may mean nothing."


def export(model: LlamaForCausalLM, config: dict[str, Any], folder: Path) -> None:
    """Writes the folder. `config` is `training.trainer.shape`'s; the head is the embedding and is not written twice."""
    import torch
    from safetensors.torch import save_file

    describe(folder, config, {"name": folder.name, "trained": True, "trusted": False, "notice": NOTICE})
    tensors = {
        name: value.detach().to("cpu", torch.float16).contiguous()
        for name, value in model.state_dict().items()
        if name != "lm_head.weight"
    }
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "mlx"})
