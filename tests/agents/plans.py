"""A plan in two steps, and a house in which it is drawn: one step is thought, one needs files."""

from __future__ import annotations

import json
from typing import Any

RECALL = {
    "role": "builder",
    "task": "Recall how many letters there are.",
    "acceptance": "The number is said.",
    "needs": ["memory"],
    "after": [],
}
WRITE = {
    "role": "builder",
    "task": "Write the number into letters.txt.",
    "acceptance": "The file holds the number.",
    "needs": ["files"],
    "after": [1],
}


def document(*steps: dict[str, Any]) -> str:
    """The steps as an architect writes them."""
    return json.dumps({"steps": list(steps)})
