"""How large the sectors of a context may be, in tokens of the agent's own model. Settings change them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """Budgets in tokens. The window has what self, role, tools and notebook leave."""

    self_tokens: int = 1024
    notebook_tokens: int = 2048
