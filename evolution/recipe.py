"""mergekit's recipes in YAML: read, and told plainly which of their lines have no effect here.

Knows mergekit's vocabulary; does not merge. A recipe for `ties` becomes numbers for our own merge, which equals
mergekit's in float32; one of another method is run by mergekit itself on the plastic part (`evolution.mergekit`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from engine.errors import InvalidInput
from evolution.ties import DENSITY, Share, Ties

METHODS = (
    "ties",
    "task_arithmetic",
    "dare_ties",
    "dare_linear",
    "breadcrumbs",
    "breadcrumbs_ties",
    "della",
    "della_linear",
)
"""Methods that merge any number of models tensor by tensor."""
KNOWN = frozenset({"merge_method", "models", "base_model", "parameters", "dtype", "out_dtype"})
WITHOUT_EFFECT = {
    "tokenizer_source": "the tokenizer is the anchor's own",
    "tokenizer": "the tokenizer is the anchor's own",
    "chat_template": "the chat template is the anchor's own",
    "name": "a generation has a number",
    "dtype": "a merge is computed in float32 and written in the anchor's dtype",
    "out_dtype": "a generation is written in the anchor's dtype",
}
OURS = frozenset({"normalize", "int8_mask", "lambda", "density", "weight", "rescale"})


@dataclass(frozen=True)
class Recipe:
    """A recipe that was understood."""

    method: str
    adapters: tuple[str, ...]
    numbers: Ties
    shares: Mapping[str, Share]
    parameters: Mapping[str, Any]
    """As they stand in the file, for mergekit."""
    without_effect: tuple[str, ...]
    """Sentences: a line and why it changes nothing."""

    @property
    def plain(self) -> dict[str, Any]:
        """As a generation's manifest keeps it."""
        shares = {name: asdict(share) for name, share in self.shares.items()}
        return {"method": self.method, "parameters": dict(self.parameters), "shares": shares}


def read(path: Path) -> Recipe:
    """Reads a recipe whose models are names of kept adapters.

    Raises InvalidInput for what is no recipe, or asks for what a merge of adapters onto one anchor cannot be.
    """
    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidInput(f"{path} cannot be read as a recipe: {error}.", "Give a YAML file of mergekit's.") from error
    if not isinstance(said, dict) or not isinstance(said.get("models"), list):
        raise InvalidInput(
            f"{path} names no `models`.", "A recipe lists the adapters to merge; `slices` have no place here."
        )
    method = str(said.get("merge_method", ""))
    if method not in METHODS:
        raise InvalidInput(
            f"The method {method or '(none)'!r} does not merge adapters onto an anchor.", f"Use {', '.join(METHODS)}."
        )
    base = str(said.get("base_model", ""))
    dull = [f"`{key}`: {WITHOUT_EFFECT[key]}." for key in said if key in WITHOUT_EFFECT]
    dull += [
        f"`{key}`: unknown, and mergekit passes over it in silence."
        for key in said
        if key not in KNOWN and key not in WITHOUT_EFFECT
    ]
    shared: dict[str, Any] = dict(said.get("parameters") or {})
    shares: dict[str, Share] = {}
    for one in said["models"]:
        name, mine = _model(one, path)
        if name == base:
            dull.append(f"`models: {name}`: the base's own task vector is zero; listing it does nothing.")
            continue
        shares[name] = Share(
            _number(mine.get("weight", shared.get("weight", 1.0)), "weight"),
            _number(mine.get("density", shared.get("density", DENSITY if method == "ties" else 1.0)), "density"),
        )
    if not shares:
        raise InvalidInput(f"{path} names no model beside the base.", "List the adapters to merge under `models`.")
    normalize = bool(shared.get("normalize", True))
    if method == "ties":
        dull += _dull_in_ties(shared, shares, normalize)
    numbers = Ties(_number(shared.get("lambda", 1.0), "lambda"), normalize)
    return Recipe(method, tuple(shares), numbers, shares, shared, tuple(dull))


def _dull_in_ties(shared: Mapping[str, Any], shares: Mapping[str, Share], normalize: bool) -> list[str]:
    dull: list[str] = []
    weights = {share.weight for share in shares.values()}
    if normalize and len(weights) == 1 and weights != {1.0}:
        dull.append(
            f"`weight: {weights.pop()}`: equal weights are divided out again by `normalize: true`; "
            "to go half as far, halve `lambda`."
        )
    if shared.get("int8_mask"):
        dull.append("`int8_mask`: the type of a mask of signs; the result is the same in every bit.")
    if shared.get("rescale"):
        dull.append("`rescale`: not done here; trimmed task vectors keep their size.")
    dull += [f"`parameters.{key}`: unknown to ties." for key in shared if key not in OURS]
    return dull


def _model(one: Any, path: Path) -> tuple[str, dict[str, Any]]:
    if not isinstance(one, dict) or not isinstance(one.get("model"), str):
        raise InvalidInput(f"{path} lists a model without a name.", "Write `- model: NAME-OF-AN-ADAPTER`.")
    return str(one["model"]), dict(one.get("parameters") or {})


def _number(value: Any, name: str) -> float:
    """One number. Gradients and filters over layers are mergekit's, not a merge's of adapters."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInput(f"`{name}` is {value!r}.", "Give one number; gradients over layers are not taken.")
    return float(value)
