"""The seedling's control tokens and chat template. Text only; knows neither weights nor training."""

from __future__ import annotations

PAD, BEGIN, TURN, END = "<|pad|>", "<|begin|>", "<|turn|>", "<|end|>"
MARKS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<tools>", "</tools>")
SPARE = tuple(f"<|spare_{place}|>" for place in range(6))
CONTROL = (PAD, BEGIN, TURN, END, *MARKS, *SPARE)
"""In the order of their ids, from 0."""

# A tool is told by its name, its arguments and the first sentence of its description: schemas would take a third of
# the window, and a model of this size learns what they say by example.
CHAT_TEMPLATE = """\
<|begin|>
{%- if messages[0].role == 'system' or tools -%}
<|turn|>system
{% if messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}
{%- if tools %}

You may call these tools:
<tools>
{%- for tool in tools %}
{%- set told = tool.function %}
{{ '\\n' }}{{ told.name }}({{ told.parameters.properties | join(', ') }}): {{ told.description.split('.')[0] }}.
{%- endfor %}
</tools>
To call one, answer with its name and arguments:
<tool_call>
{"name": "tool name", "arguments": {"argument": "value"}}
</tool_call>
{%- endif -%}
<|end|>
{%- endif -%}
{%- for message in messages -%}
{%- if message.role == 'user' -%}
<|turn|>user
{{ message.content }}<|end|>
{%- elif message.role == 'tool' -%}
<|turn|>tool
<tool_response>{{ message.name }}
{{ message.content }}</tool_response><|end|>
{%- elif message.role == 'assistant' -%}
<|turn|>assistant
{{ message.content }}
{%- for tool_call in message.tool_calls or [] -%}
{%- if tool_call.function %}{% set tool_call = tool_call.function %}{% endif %}
<tool_call>
{"name": "{{ tool_call.name }}", "arguments": {{ tool_call.arguments | tojson }}}
</tool_call>
{%- endfor -%}
<|end|>
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
<|turn|>assistant
{% endif -%}
"""
