"""Chat templates that show tools, or read messages in their own way."""

# As Hermes and Qwen have theirs, in short.
HERMES = (
    "{% if tools %}<|im_start|>system\nYou can call functions:\n<tools>\n"
    "{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}</tools>\n"
    'Write a call as <tool_call>\n{"name": NAME, "arguments": ARGUMENTS}\n</tool_call><|im_end|>\n{% endif %}'
    "{% for m in messages %}<|im_start|>{% if m.role == 'tool' %}user\n<tool_response>\n{{ m.content }}\n"
    "</tool_response>{% else %}{{ m.role }}\n{{ m.content }}{% for call in m.tool_calls or [] %}"
    '\n<tool_call>\n{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}'
    "\n</tool_call>{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# As Llama 3.1 has its own, in short.
LLAMA31 = (
    "<s>{% if tools %}<|start_header_id|>system<|end_header_id|>\n\nGiven these functions, answer with JSON "
    'of the form {"name": NAME, "parameters": PARAMETERS}.\n{% for tool in tools %}{{ tool | tojson }}\n'
    "{% endfor %}<|eot_id|>{% endif %}"
    "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content }}<|eot_id|>"
    "{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
# One that reads the parts of a message.
LISTS = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% for c in m['content'] %}{{ c['text'] }}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# One that adds strings, and shows a system message with the tools.
TOOLS = (
    "{%- if tools %}{{ '<|im_start|>system\\n' }}{%- if messages[0].role == 'system' %}"
    "{{ messages[0].content + '\\n\\n' }}{%- endif %}{{ '# Tools\\n<tools>' }}{%- for tool in tools %}"
    "{{ '\\n' }}{{ tool | tojson }}{%- endfor %}{{ '\\n</tools><|im_end|>\\n' }}{%- endif %}"
    "{%- for message in messages %}{%- if message.role != 'system' or not tools %}"
    "{{ '<|im_start|>' + message.role + '\\n' + message.content }}{%- if message.tool_calls %}"
    "{%- for call in message.tool_calls %}{{ '\\n<tool_call>\\n' + call.function.name }}"
    "{{ call.function.arguments | tojson }}{%- endfor %}{%- endif %}{{ '<|im_end|>\\n' }}{%- endif %}"
    "{%- endfor %}{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{%- endif %}"
)
