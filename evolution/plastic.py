"""Which tensors of a model may change: the attention's projections of queries, keys and values.

Knows names only. A model that fuses the three into one tensor is mapped to that tensor; one whose attention is built in
another way is refused with the names found.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from engine.errors import InvalidInput

SEPARATE = re.compile(r"\.(?:self_attn|attn|attention)\.(?:q_proj|k_proj|v_proj)\.weight$")
FUSED = re.compile(r"\.(?:self_attn|attn|attention|self_attention)\.(?:qkv_proj|query_key_value|Wqkv|wqkv)\.weight$")
LINEAR = re.compile(r"\.layers\.\d+\..*(?:proj|query_key_value|Wqkv|wqkv)\.weight$")
NEAR = re.compile(r"(?:attn|attention).*\.weight$")
LAYER = re.compile(r"^(?P<stem>.*?\.?layers\.)(?P<layer>\d+)\.(?P<key>.+)$")


def plastic_names(names: Iterable[str]) -> tuple[str, ...]:
    """The tensors that hold queries, keys and values, sorted.

    Raises InvalidInput where there are none by names that are known.
    """
    every = sorted(names)
    for known in (SEPARATE, FUSED):
        if found := tuple(name for name in every if known.search(name)):
            return found
    seen = sorted({LAYER.sub(r"\g<key>", name) for name in every if NEAR.search(name)})
    raise InvalidInput(
        "This model's attention has no projections of queries, keys and values by a name that is known"
        + (f"; it has {', '.join(seen[:8])}." if seen else "."),
        "Choose a model with q_proj, k_proj and v_proj (Llama, Mistral, Qwen, Gemma) or a fused qkv_proj.",
    )


def linear_names(names: Iterable[str]) -> tuple[str, ...]:
    """The weights of all linear layers inside the blocks, sorted."""
    return tuple(sorted(name for name in names if LINEAR.search(name)))


def layer_keys(names: Iterable[str]) -> tuple[str, ...]:
    """Module paths within a block (`self_attn.q_proj`), which is how mlx_lm names what gets an adapter."""
    found = {match["key"].removesuffix(".weight") for name in names if (match := LAYER.match(name))}
    return tuple(sorted(found))
