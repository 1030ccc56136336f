# pyright: reportMissingImports=false, reportMissingTypeStubs=false
# torch is in an extra that not every checkout has.
"""Writes a trained seedling as a model folder that mlx_lm loads: float16, Llama names, tokenizer and template with it.

Knows files; does not judge what it writes: the folder is marked as untrained, so that its verdicts never count, until
an evaluation has said otherwise.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.seedling.weights import TOKENIZER_CONFIG, tokenizer_bytes

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

NOTICE = "These words come from a seedling whose training was not evaluated: they may mean nothing."


def export(model: LlamaForCausalLM, config: dict[str, Any], folder: Path) -> None:
    """Writes the folder. `config` is `training.trainer.shape`'s; the head is the embedding and is not written twice."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: value.detach().to("cpu", torch.float16).contiguous()
        for name, value in model.state_dict().items()
        if name != "lm_head.weight"
    }
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "mlx"})
    (folder / "tokenizer.json").write_bytes(tokenizer_bytes())
    for name, value in (
        ("config.json", {**config, "torch_dtype": "float16"}),
        ("tokenizer_config.json", TOKENIZER_CONFIG),
        ("soul.json", {"name": folder.name, "trained": False, "notice": NOTICE}),
    ):
        (folder / name).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
