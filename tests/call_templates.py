"""Chat templates with functions, for tests: name -> (source, BOS, EOS, the control tokens of such a vocabulary).

None is verbatim. Each is a reduction, written for these tests, of the template of the models named (as published with
them, most also in llama.cpp's models/templates): what it makes of system, user and assistant messages, of the list of
functions, of a call and of its result is kept letter for letter; what is left out are images, several calls in one
message, and the checks of a conversation's order.
"""

from __future__ import annotations

_QWEN_TOOLS = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}
    {{- "# Tools\\n\\nYou may call one or more functions to assist with the user query.\\n\\nYou are provided with function signatures within <tools></tools> XML tags:\\n<tools>" }}
    {%- for tool in tools %}{{- "\\n" }}{{- tool | tojson }}{%- endfor %}
    {{- "\\n</tools>\\n\\nFor each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:\\n<tool_call>\\n{\\"name\\": <function-name>, \\"arguments\\": <args-json-object>}\\n</tool_call><|im_end|>\\n" }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
"""  # noqa: E501 - the words of the template

_QWEN_RESULT = """
    {%- elif message.role == "tool" %}
        {{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""

_QWEN_CALL = """{{- '<tool_call>\\n{"name": "' + call.name + '", "arguments": ' }}
{{- call.arguments if call.arguments is string else (call.arguments | tojson) }}{{- '}\\n</tool_call>' }}"""

#: Qwen2.5, Hermes 2 Pro and what follows them.
HERMES = (
    _QWEN_TOOLS
    + """{%- for message in messages %}
    {%- if message.role == "user" or (message.role == "system" and not loop.first)
        or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}{{- '\\n' + message.content }}{%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- set call = tool_call.function %}{{- '\\n' }}"""
    + _QWEN_CALL
    + """{%- endfor %}
        {{- '<|im_end|>\\n' }}"""
    + _QWEN_RESULT
)

#: Qwen3: the same, with thinking that is dropped from all turns but the last.
QWEN3 = (
    _QWEN_TOOLS
    + """{%- set ns = namespace(last=messages|length - 1) %}
{%- for message in messages %}{%- if message.role == 'user' %}{%- set ns.last = loop.index0 %}{%- endif %}{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == "user" or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set thinking = '' %}
        {%- if message.reasoning_content is string %}{%- set thinking = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set thinking = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>' + message.role + '\\n' }}
        {%- if loop.index0 > ns.last and (loop.last or thinking) %}
            {{- '<think>\\n' + thinking.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}{{- content }}{%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if content %}{{- '\\n' }}{%- endif %}
            {%- set call = tool_call.function %}"""
    + _QWEN_CALL
    + """{%- endfor %}
        {{- '<|im_end|>\\n' }}"""
    + _QWEN_RESULT
)

#: Llama 3.2; 3.1 and 3.3 write a call of a custom function in the same way.
LLAMA3 = """{{- bos_token }}
{%- if not tools_in_user_message is defined %}{%- set tools_in_user_message = true %}{%- endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}{%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}{%- set date_string = "26 Jul 2024" %}{%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}{%- set messages = messages[1:] %}
{%- else %}{%- set system_message = "" %}{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}{{- "Environment: ipython\\n" }}{%- endif %}
{{- "Cutting Knowledge Date: December 2023\\nToday Date: " + date_string + "\\n\\n" }}
{%- if tools is not none and not tools_in_user_message %}
    {{- "You have access to the following functions. To call a function, please respond with JSON for a function call." }}
    {{- 'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.' }}
    {{- "Do not use variables.\\n\\n" }}
    {%- for t in tools %}{{- t | tojson(indent=4) }}{{- "\\n\\n" }}{%- endfor %}
{%- endif %}
{{- system_message + "<|eot_id|>" }}
{%- if tools_in_user_message and not tools is none %}
    {%- set first_user_message = messages[0]['content']|trim %}{%- set messages = messages[1:] %}
    {{- '<|start_header_id|>user<|end_header_id|>\\n\\nGiven the following functions:\\n\\n' -}}
    {%- for t in tools %}{{- t | tojson(indent=4) }}{{- "\\n\\n" }}{%- endfor %}
    {{- first_user_message + "<|eot_id|>" }}
{%- endif %}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
        {{- '{"name": "' + tool_call.name + '", ' }}{{- '"parameters": ' }}{{- tool_call.arguments | tojson }}{{- "}" }}
        {{- "<|eot_id|>" }}
    {%- else %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" + (message.content | tojson) + "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}
"""  # noqa: E501 - the words of the template

#: A fine-tune of Llama 3.1 that begins a call with its control token.
LLAMA3_TAGGED = LLAMA3.replace("""{{- '{"name": "'""", """{{- '<|python_tag|>{"name": "'""")

_MISTRAL_TOOLS = """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}{%- set loop_messages = messages[1:] %}
{%- else %}{%- set loop_messages = messages %}{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[AVAILABLE_TOOLS][" }}
            {%- for tool in tools %}
                {%- set tool = tool.function %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, val in tool.items() if key != "return" %}
                    {%- if val is string %}{{- '"' + key + '": "' + val + '"' }}
                    {%- else %}{{- '"' + key + '": ' + val|tojson }}{%- endif %}
                    {%- if not loop.last %}{{- ", " }}{%- endif %}
                {%- endfor %}
                {{- "}}" }}{{- ", " if not loop.last else "]" }}
            {%- endfor %}
            {{- "[/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST]" + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}{{- "[INST]" + message["content"] + "[/INST]" }}{%- endif %}
"""

#: Mistral 7B v0.3 and Nemo.
MISTRAL = (
    _MISTRAL_TOOLS
    + """{%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- "[TOOL_CALLS][" }}
        {%- set tool_call = message.tool_calls[0] %}{%- set out = tool_call.function|tojson %}
        {{- out[:-1] }}
        {%- if not tool_call.id is defined or tool_call.id|length != 9 %}{{- raise_exception("9!") }}{%- endif %}
        {{- ', "id": "' + tool_call.id + '"}' }}{{- "]" + eos_token }}
    {%- elif message["role"] == "assistant" %}{{- message["content"] + eos_token}}
    {%- elif message["role"] == "tool" %}
        {%- if not message.tool_call_id is defined %}{{- raise_exception("id!") }}{%- endif %}
        {{- '[TOOL_RESULTS]{"content": ' + message.content|string + ', "call_id": "' + message.tool_call_id + '"}' }}
        {{- '[/TOOL_RESULTS]' }}
    {%- else %}{{- raise_exception("Only user and assistant roles are supported!") }}{%- endif %}
{%- endfor %}"""
)

#: Devstral, Magistral and Ministral.
MISTRAL_ARGS = (
    _MISTRAL_TOOLS
    + """{%- elif message["role"] == "assistant" %}
        {%- if message.content %}{{- message.content }}{%- endif %}
        {%- for tool_call in message.tool_calls or [] %}
            {%- set arguments = tool_call.function.arguments %}
            {{- "[TOOL_CALLS]" + tool_call.function.name + "[ARGS]" }}
            {{- arguments if arguments is string else (arguments | tojson) }}
        {%- endfor %}
        {{- eos_token }}
    {%- elif message["role"] == "tool" %}{{- '[TOOL_RESULTS]' + message.content|string + '[/TOOL_RESULTS]' }}
    {%- else %}{{- raise_exception("Only user and assistant roles are supported!") }}{%- endif %}
{%- endfor %}"""
)

_GEMMA_MACROS = """{%- macro argument(value) -%}
    {%- if value is string -%}{{- Q + value + Q -}}
    {%- elif value is boolean -%}{{- 'true' if value else 'false' -}}
    {%- elif value is mapping -%}
        {{- '{' -}}
        {%- for key, item in value | dictsort -%}
            {{- ',' if not loop.first -}}{{- key -}}:{{- argument(item) -}}
        {%- endfor -%}
        {{- '}' -}}
    {%- elif value is sequence -%}
        {{- '[' -}}{%- for item in value -%}{{- ',' if not loop.first -}}{{- argument(item) -}}{%- endfor -%}{{- ']' -}}
    {%- else -%}{{- value -}}{%- endif -%}
{%- endmacro -%}
{%- macro declaration(tool) -%}
    declaration:{{- tool['function']['name'] -}}{description:{{- argument(tool['function']['description']) -}}
    ,parameters:{properties:{
    {%- for key, value in tool['function']['parameters']['properties'] | dictsort -%}
        {{- ',' if not loop.first -}}{{- key -}}:{
        {%- if value['description'] -%}description:{{- argument(value['description']) -}},{%- endif -%}
        type:{{- argument(value['type'] | upper) -}}}
    {%- endfor -%}
    },required:{{- argument(tool['function']['parameters']['required']) -}}
    ,type:{{- argument(tool['function']['parameters']['type'] | upper) -}}}}
{%- endmacro -%}
"""

#: Gemma 4.
GEMMA4 = (
    _GEMMA_MACROS.replace("Q + value + Q", "'<|\"|>' + value + '<|\"|>'")
    + """{%- set loop_messages = messages -%}
{{ bos_token }}
{%- if tools or messages[0]['role'] in ['system', 'developer'] -%}
    {{- '<|turn>system\\n' -}}
    {%- if messages[0]['role'] in ['system', 'developer'] -%}
        {{- messages[0]['content'] | trim -}}{%- set loop_messages = messages[1:] -%}
    {%- endif -%}
    {%- for tool in tools or [] %}{{- '<|tool>' -}}{{- declaration(tool) | trim -}}{{- '<tool|>' -}}{%- endfor %}
    {{- '<turn|>\\n' -}}
{%- endif %}
{%- for message in loop_messages -%}
    {{- '<|turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n' }}
    {%- for tool_call in message['tool_calls'] or [] -%}
        {%- set function = tool_call['function'] -%}
        {{- '<|tool_call>call:' + function['name'] + '{' -}}
        {%- for key, value in function['arguments'] | dictsort -%}
            {{- ',' if not loop.first -}}{{- key -}}:{{- argument(value) -}}
        {%- endfor -%}
        {{- '}<tool_call|>' -}}
    {%- endfor -%}
    {%- if message['content'] is string -%}{{- message['content'] | trim -}}{%- endif -%}
    {{- '<turn|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|turn>model\\n' -}}{%- endif -%}
"""
)

#: FunctionGemma, from its published description of the format.
FUNCTION_GEMMA = (
    _GEMMA_MACROS.replace("Q + value + Q", "'<escape>' + value + '<escape>'")
    + """{{ bos_token }}
{%- set loop_messages = messages -%}
{%- if tools or messages[0]['role'] in ['system', 'developer'] -%}
    {{- '<start_of_turn>developer\\n' -}}
    {%- if messages[0]['role'] in ['system', 'developer'] -%}
        {{- messages[0]['content'] | trim -}}{%- set loop_messages = messages[1:] -%}
    {%- endif -%}
    {%- for tool in tools or [] -%}
        {{- '<start_function_declaration>' -}}{{- declaration(tool) | trim -}}{{- '<end_function_declaration>' -}}
    {%- endfor -%}
    {{- '<end_of_turn>\\n' -}}
{%- endif %}
{%- for message in loop_messages -%}
    {{- '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n' -}}
    {%- if message['content'] is string -%}{{- message['content'] | trim -}}{%- endif -%}
    {%- for tool_call in message['tool_calls'] or [] -%}
        {{- '<start_function_call>call:' + tool_call['function']['name'] -}}
        {{- argument(tool_call['function']['arguments']) -}}{{- '<end_function_call>' -}}
    {%- endfor -%}
    {{- '<end_of_turn>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<start_of_turn>model\\n' -}}{%- endif -%}
"""
)

_CHATML_SYSTEM = """{{- bos_token -}}
{%- set ns = namespace(system="") -%}
{%- if messages[0]["role"] == "system" -%}
    {%- set ns.system = messages[0]["content"] -%}{%- set messages = messages[1:] -%}
{%- endif -%}
"""

#: LFM2: the list of functions only; a call is not rendered.
LFM2 = (
    _CHATML_SYSTEM
    + """{%- if tools -%}
    {%- set ns.system = ns.system + ("\\n" if ns.system else "") + "List of tools: <|tool_list_start|>[" -%}
    {%- for tool in tools -%}
        {%- set ns.system = ns.system + (tool if tool is string else (tool | tojson)) -%}
        {%- if not loop.last -%}{%- set ns.system = ns.system + ", " -%}{%- endif -%}
    {%- endfor -%}
    {%- set ns.system = ns.system + "]<|tool_list_end|>" -%}
{%- endif -%}
{%- if ns.system -%}{{- "<|im_start|>system\\n" + ns.system + "<|im_end|>\\n" -}}{%- endif -%}
{%- for message in messages -%}
    {%- set content = message["content"] if message["content"] is string else (message["content"] | tojson) -%}
    {%- if message["role"] == "tool" -%}
        {%- set content = "<|tool_response_start|>" + content + "<|tool_response_end|>" -%}
    {%- endif -%}
    {{- "<|im_start|>" + message["role"] + "\\n" + content + "<|im_end|>\\n" -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- "<|im_start|>assistant\\n" -}}{%- endif -%}
"""
)

#: LFM2.5: Python calls, thinking, today's date before the functions, marks of what is trained on.
LFM25 = (
    """{%- macro format_arg_value(value) -%}
    {%- if value is string -%}{{- "'" + value + "'" -}}
    {%- elif value is mapping -%}{{- value | tojson -}}
    {%- else -%}{{- value | string -}}{%- endif -%}
{%- endmacro -%}
"""
    + _CHATML_SYSTEM
    + """{%- if tools -%}
    {%- set ns.system = ns.system + ("\\n\\n" if ns.system else "") + "Today's date: " + strftime_now("%Y-%m-%d") -%}
    {%- set ns.system = ns.system + "\\n\\nList of tools: " + (tools | tojson) -%}
{%- endif -%}
{%- if ns.system -%}{{- "<|im_start|>system\\n" + ns.system + "<|im_end|>\\n" -}}{%- endif -%}
{%- for message in messages -%}
    {{- "<|im_start|>" + message.role + "\\n" -}}
    {%- if message.role == "assistant" -%}
        {%- generation -%}
        {%- if message.thinking is defined -%}{{- "<think>" + message.thinking + "</think>" -}}{%- endif -%}
        {{- message.content -}}
        {%- for call in message.tool_calls or [] -%}
            {%- set call_ns = namespace(arguments=[]) -%}
            {%- for name, value in call["function"]["arguments"].items() -%}
                {%- set call_ns.arguments = call_ns.arguments + [name + "=" + format_arg_value(value)] -%}
            {%- endfor -%}
            {{- "<|tool_call_start|>[" + call["function"]["name"] + "(" -}}
            {{- (call_ns.arguments | join(", ")) + ")]<|tool_call_end|>" -}}
        {%- endfor -%}
        {{- "<|im_end|>\\n" -}}
        {%- endgeneration -%}
    {%- else %}{{- message.content + "<|im_end|>\\n" -}}{%- endif %}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- "<|im_start|>assistant\\n" -}}{%- endif -%}
"""
)

#: Phi-4-mini: functions are a text in the system message; a call is not rendered.
PHI4 = """{%- for message in messages %}
    {%- if message['role'] == 'system' and 'tools' in message and message['tools'] is not none %}
        {{- '<|' + message['role'] + '|>' + message['content'] }}
        {{- '<|tool|>' + message['tools'] + '<|/tool|>' + '<|end|>' }}
    {%- else %}{{- '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>' }}{%- else %}{{- eos_token }}{%- endif %}"""

#: DeepSeek-R1's distilled models: the prompt begins the thinking; functions are not listed.
DEEPSEEK = """{%- set ns = namespace(system_prompt='') -%}
{%- for message in messages -%}
    {%- if message['role'] == 'system' -%}{%- set ns.system_prompt = message['content'] -%}{%- endif -%}
{%- endfor -%}{{ bos_token }}{{ ns.system_prompt }}
{%- for message in messages -%}
    {%- if message['role'] == 'user' -%}{{ '<｜User｜>' + message['content'] }}{%- endif -%}
    {%- if message['role'] == 'assistant' and message['tool_calls'] -%}
        {%- for tool in message['tool_calls'] -%}
            {{ '<｜Assistant｜><｜tool▁calls▁begin｜><｜tool▁call▁begin｜>' + tool['type'] + '<｜tool▁sep｜>'
               + tool['function']['name'] + '\\n' + '```json' + '\\n' + tool['function']['arguments'] + '\\n' + '```'
               + '<｜tool▁call▁end｜>' }}
        {%- endfor -%}
        {{ '<｜tool▁calls▁end｜><｜end▁of▁sentence｜>' }}
    {%- endif -%}
    {%- if message['role'] == 'assistant' and message['content'] is not none -%}
        {{ '<｜Assistant｜>' + message['content'].split('</think>')[-1] + '<｜end▁of▁sentence｜>' }}
    {%- endif -%}
    {%- if message['role'] == 'tool' -%}
        {{ '<｜tool▁outputs▁begin｜><｜tool▁output▁begin｜>' + message['content'] + '<｜tool▁output▁end｜>' }}
        {{- '<｜tool▁outputs▁end｜>' }}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<｜Assistant｜><think>\\n' }}{%- endif %}"""

_IM = ("<|im_start|>", "<|im_end|>")
_THINK = ("<think>", "</think>")
_LLAMA = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|python_tag|>")
_INST = (
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_CALLS]",
    "[TOOL_RESULTS]",
)
_LFM = (*_IM, "<|tool_call_start|>", "<|tool_call_end|>", "<|tool_list_start|>", "<|tool_list_end|>")
_DEEPSEEK = (
    "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<｜tool▁calls▁begin｜>",
    "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>",
)  # fmt: skip

CALL_TEMPLATES: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "hermes": (HERMES, "", "<|im_end|>", (*_IM, "<tool_call>", "</tool_call>")),
    "hermes untagged": (HERMES, "", "<|im_end|>", _IM),
    "qwen3": (QWEN3, "", "<|im_end|>", (*_IM, *_THINK, "<tool_call>", "</tool_call>")),
    "llama3": (LLAMA3, "<|begin_of_text|>", "<|eot_id|>", _LLAMA),
    "llama3 tagged": (LLAMA3_TAGGED, "<|begin_of_text|>", "<|eot_id|>", _LLAMA),
    "mistral": (MISTRAL, "<s>", "</s>", _INST),
    "mistral-args": (MISTRAL_ARGS, "<s>", "</s>", (*_INST, "[ARGS]")),
    "gemma4": (
        GEMMA4,
        "<bos>",
        "<turn|>",
        ("<bos>", "<|turn>", "<turn|>", "<|tool>", "<tool|>", "<|tool_call>", "<tool_call|>", '<|"|>'),
    ),
    "functiongemma": (
        FUNCTION_GEMMA,
        "<bos>",
        "<end_of_turn>",
        (
            "<bos>",
            "<start_of_turn>",
            "<end_of_turn>",
            "<start_function_declaration>",
            "<end_function_declaration>",
            "<start_function_call>",
            "<end_function_call>",
            "<escape>",
        ),
    ),
    "lfm2": (LFM2, "", "<|im_end|>", _LFM),
    "lfm2.5": (LFM25, "", "<|im_end|>", (*_LFM, *_THINK)),
    "phi4": (
        PHI4,
        "",
        "<|endoftext|>",
        (
            "<|system|>",
            "<|user|>",
            "<|assistant|>",
            "<|tool|>",
            "<|/tool|>",
            "<|end|>",
            "<|endoftext|>",
            "<|tool_call|>",
            "<|/tool_call|>",
        ),
    ),
    "deepseek": (DEEPSEEK, "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", (*_DEEPSEEK, *_THINK)),
}
