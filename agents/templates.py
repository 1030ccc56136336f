"""What `soul agents new` writes into agents.toml, and what each role is told where its table says nothing else."""

from __future__ import annotations

from agents.roster import Role

INSTRUCTIONS: dict[Role, str] = {
    "director": "",
    "architect": (
        "You turn a goal into a plan of few steps. Each step says what is to be done, how one sees that it is done, "
        "and whether it can be done at home or has to go out to the Hands."
    ),
    "builder": (
        "You carry out one step at a time with the tools you have, and say what you did and saw. What you cannot do "
        "with them you give back, and say what is needed."
    ),
    "controller": "You look at what changed and say in one or two sentences what matters of it, and to whom.",
    "critic": (
        "You read a work order before it leaves the house. You object when it is unclear, when it cannot be checked, "
        "when it gives away what should stay at home, or when it could do harm."
    ),
    "majordomo": (
        "You keep the house in order: what is open, what is late, what was promised. You answer in short lists."
    ),
}

_LOCAL = 'role = "{role}"\nruns_on = "mlx"\ntools = {tools}\nsteps = 6\ntokens = 768\nseconds = 300\n'
_TOOLS: dict[Role, str] = {"architect": '["recall"]', "builder": '["recall", "write_notebook"]'}

CLAUDE = """\
role = "builder"
runs_on = "claude"
# The one folder it may work in, under one of `allowed_roots`; and its limits for each run.
folder = "{folder}"
minutes = 20
turns = 40
usd = 2.0
tools = ["Read", "Glob", "Grep", "Edit", "Write"]  # commands by name: "Bash(git status *)"
environment = []  # names of variables that it gets, such as "ANTHROPIC_API_KEY"
safe_to_repeat = false
"""
API = """\
role = "builder"
runs_on = "api"
provider = "openai"  # or "anthropic"
model = "{model}"
base_url = "{base_url}"
key = ""  # the NAME of the variable that holds the key
minutes = 5
tokens = 4096
"""


def table(
    name: str,
    role: Role,
    runs_on: str,
    folder: str = "",
    model: str = "",
    base_url: str = "",
    context: int | None = None,
    kv_format: str = "",
) -> str:
    """The text of a new table. At home, model, context and form are the Director's where none is given."""
    if runs_on == "claude":
        body = CLAUDE.format(folder=_quoted(folder))
    elif runs_on == "api":
        body = API.format(model=_quoted(model), base_url=_quoted(base_url))
    elif role == "director":
        body = (
            "# The Director's instructions are its self; these are the limits of its turns.\nsteps = 6\ntokens = 768\n"
        )
    else:
        body = _LOCAL.format(role=role, tools=_TOOLS.get(role, '["recall"]'))
        body += (
            f'model = "{_quoted(model)}"\n'
            if model
            else '# model = ""  # a folder or hub name; default: the Director\'s\n'
        )
        body += f"context = {context}\n" if context else "# context = 8192  # most tokens of its window\n"
        body += f'kv_format = "{kv_format}"\n' if kv_format else '# kv_format = "k8v4"  # or "q8", "exact"\n'
        body += f'instructions = """\n{INSTRUCTIONS[role]}"""\n'
    return f"[{name}]\n" + body.replace('role = "builder"', f'role = "{role}"')


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
