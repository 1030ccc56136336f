"""Models whose answers a test can rely on: a parrot that is built to say what it was told to, through the real engine;
and the shipped seedling as one whose verdicts count.

`parrot(folder, reply)` writes a model folder that mlx_lm loads like any other: a Llama of one layer with the seedling's
tokenizer and chat template, in which each reply is one token of its own. How it works: the last token of the generation
prompt looks back through one attention head for the latest marker token (rotary positions make nearer ones weigh more);
what it finds, or that it finds none, decides the reply's token; after a reply, and after anything else, it stops.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, pre_tokenizers

from engine.seedling.template import CONTROL, END
from engine.seedling.weights import NOTES, TOKENIZER_CONFIG, seedling, tokenizer_bytes

HEAD_DIM = 64
THETA = 20_000.0
CONTEXT = 8192
OTHER, PROMPT, SPOKEN, MARKS = 0, 1, 2, 3
"""Axes of the hidden state; markers have one each from MARKS on, and what was found one each behind those."""


def trusted_seedling(folder: Path) -> Path:
    """The seedling, of which a folder says that its verdicts count; returns `folder`."""
    shutil.copytree(seedling(), folder)
    _dump(folder / "soul.json", {**NOTES, "trusted": True})
    return folder


def parrot(
    folder: Path,
    reply: str | Sequence[str] | Mapping[str, str],
    *,
    trained: bool = True,
    prefers: str | Mapping[str, str] = "",
    name: str = "parrot",
) -> Path:
    """Writes the model and returns `folder`.

    Args:
        reply: what it says to every prompt; or several replies, said one after the other within a context (the last
            one again and again); or replies by marker word: the one whose marker stands last in the context is said,
            and `""` names the reply without any marker. A marker is one word of letters; it is also found at the start
            of a longer word. Replies may hold tool calls: `<tool_call>{"name": ..., "arguments": {}}</tool_call>`.
        trained: False writes a folder that says it is an untrained stand-in.
        prefers: the option that `Engine.choose` finds most probable after the generation prompt, or by marker word.
    """
    rules = dict(reply) if isinstance(reply, Mapping) else {}
    chain = [reply] if isinstance(reply, str) else [] if rules else list(reply)
    wishes = dict(prefers) if isinstance(prefers, Mapping) else {"": prefers} if prefers else {}
    markers = list(dict.fromkeys(word for word in (*rules, *wishes) if word))
    replies = list(dict.fromkeys([*chain, *rules.values()]))

    tokenizer = _tokenizer([*markers, *wishes.values()], replies)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    _dump(folder / "tokenizer_config.json", TOKENIZER_CONFIG)
    words = Tokenizer.from_str(tokenizer)
    spoken = {text: cast(int, words.token_to_id(_byte_level(text))) for text in replies}

    found: list[tuple[frozenset[int], str | None, str | None]] = []
    for word in markers:
        found.append((_ids_of(words, word), rules.get(word), wishes.get(word)))
    for one, following in zip(chain, [*chain[1:], *chain[-1:]], strict=True):
        found.append((frozenset({spoken[one]}), following, None))
    first = chain[0] if chain else rules.get("")
    vocabulary = words.get_vocab_size(with_added_tokens=True)
    weights = _weights(words, vocabulary, spoken, found, first, wishes.get(""))
    save_file(weights, str(folder / "model.safetensors"), metadata={"format": "mlx"})
    _dump(folder / "config.json", _config(vocabulary, weights["model.embed_tokens.weight"].shape[1]))
    notice = "" if trained else "These words come from an untrained stand-in for a model: they mean nothing."
    _dump(folder / "soul.json", {"name": name, "trained": trained, "notice": notice})
    return folder


def _tokenizer(words: Sequence[str], replies: Sequence[str]) -> str:
    """The seedling's tokenizer with each of `words` merged into one token, and each reply as a token of its own."""
    content = json.loads(tokenizer_bytes())
    vocabulary: dict[str, int] = content["model"]["vocab"]
    first_merges: list[list[str]] = []
    for word in dict.fromkeys(words):
        letters = _byte_level(word)
        for end in range(2, len(letters) + 1):
            first_merges.append([letters[: end - 1], letters[end - 1]])
            vocabulary.setdefault(letters[:end], len(vocabulary))
    # A merge that stands in the list twice counts with its later place.
    later = [merge for merge in content["model"]["merges"] if merge not in first_merges]
    content["model"]["merges"] = [
        merge for place, merge in enumerate(first_merges) if merge not in first_merges[:place]
    ]
    content["model"]["merges"] += later
    for place, text in enumerate(replies):
        # In the byte-level alphabet, as all tokens are: detokenizers do not know that an added one is plain text.
        token = {"id": len(vocabulary) + place, "content": _byte_level(text), "special": False, "normalized": False}
        content["added_tokens"].append(token | {"single_word": False, "lstrip": False, "rstrip": False})
    return json.dumps(content)


def _byte_level(text: str) -> str:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)[0][0]


def _ids_of(words: Tokenizer, marker: str) -> frozenset[int]:
    """The tokens that a marker is, at the start of a line and behind a blank."""
    ids = {words.encode(before + marker, add_special_tokens=False).ids[-1] for before in ("", " ", "\n", '"')}
    if any(words.decode([token]).strip() != marker for token in ids):
        raise ValueError(f"the marker {marker!r} is not one word of letters")
    return frozenset(ids)


def _weights(
    words: Tokenizer,
    vocabulary: int,
    spoken: Mapping[str, int],
    found: Sequence[tuple[frozenset[int], str | None, str | None]],
    first: str | None,
    wish: str | None,
) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """All tensors. `found`: tokens to look for, what to say to them, which option to prefer."""
    if len(found) > HEAD_DIM:
        raise ValueError(f"{len(found)} replies and markers do not fit into a head of {HEAD_DIM}")
    finds = MARKS + len(found)
    hidden = max(64, 32 * math.ceil((finds + len(found)) / 32))
    root = np.float32(math.sqrt(hidden))
    embed = np.zeros((vocabulary, hidden), np.float32)
    head = np.zeros((vocabulary, hidden), np.float32)
    query = np.zeros((HEAD_DIM, hidden), np.float32)
    key, value = query.copy(), query.copy()
    output = np.zeros((hidden, HEAD_DIM), np.float32)

    prompt = words.encode("assistant\n", add_special_tokens=False).ids[-1]
    embed[:, OTHER] = 1
    embed[prompt] = 0
    embed[prompt, PROMPT] = 1
    for token in spoken.values():
        embed[token] = 0
        embed[token, SPOKEN] = 1
    # Only the slowest pair of rotary dimensions is used: 1.5 cos(d f) - sin(d f) falls with the distance d over the
    # whole context, by more than one per token after the scaling, so that the softmax sees the nearest marker alone.
    pair = HEAD_DIM // 2 - 1
    steep = np.float32(160_000)
    query[pair, PROMPT] = 1.5 * steep / root
    query[pair + HEAD_DIM // 2, PROMPT] = steep / root
    for place, (tokens, answer, option) in enumerate(found):
        for token in tokens:
            embed[token, OTHER] = 0
            embed[token, MARKS + place] = 1
        # The norm before the attention scales to a root mean square of one; a reply's token has two axes set.
        axes = int(embed[next(iter(tokens))].sum())
        seen = np.float32(math.sqrt(axes)) / root
        key[pair, MARKS + place] = seen
        value[place, MARKS + place] = seen
        output[finds + place, place] = 1
        if answer is not None:
            head[spoken[answer], finds + place] = 2
        if option:
            head[_option(words, option), finds + place] += 1
    if first is not None:
        head[spoken[first], PROMPT] = 0.5
    if wish:
        head[_option(words, wish), PROMPT] += 0.25
    end = CONTROL.index(END)
    head[end, [OTHER, SPOKEN]] = 1
    head[end, MARKS:finds] = 1
    if first is None:
        head[end, PROMPT] = 0.5
    at = "model.layers.0."
    ones, nothing = np.ones(hidden, np.float32), np.zeros((8, hidden), np.float32)
    return {
        "model.embed_tokens.weight": embed,
        f"{at}self_attn.q_proj.weight": query,
        f"{at}self_attn.k_proj.weight": key,
        f"{at}self_attn.v_proj.weight": value,
        f"{at}self_attn.o_proj.weight": output,
        f"{at}mlp.gate_proj.weight": nothing,
        f"{at}mlp.up_proj.weight": nothing.copy(),
        f"{at}mlp.down_proj.weight": np.zeros((hidden, 8), np.float32),
        f"{at}input_layernorm.weight": ones,
        f"{at}post_attention_layernorm.weight": ones.copy(),
        "model.norm.weight": ones.copy(),
        "lm_head.weight": head,
    }


def _option(words: Tokenizer, option: str) -> int:
    return words.encode(option, add_special_tokens=False).ids[0]


def _config(vocabulary: int, hidden: int) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "head_dim": HEAD_DIM,
        "intermediate_size": 8,
        "vocab_size": vocabulary,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-9,
        "rope_theta": THETA,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "eos_token_id": CONTROL.index(END),
    }


def _dump(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
