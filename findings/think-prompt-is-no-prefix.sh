#!/usr/bin/env bash
# With six chat templates that ship with TRL, what SFT trains never follows what generation asks.
#
# Guess before: for each of TRL's training templates, the rendered prompt with its generation prompt is the beginning of
#   the rendered conversation that is trained (TRL's tests hold its templates to that property for growing chats).
# What happens: DeepSeek V3, the DeepSeek R1 distillations and four Nemotron 3 open a think block in the generation
#   prompt ("<think>\n"), and write an answer that came without reasoning as no think block at all, or as
#   "<think></think>". So a model tuned on such rows is asked, later, to go on from a place where it was never trained.
#   Qwen 3.5, 3.6 and 3.8 open the block too, but write an empty one in training: there the property holds. Reasoning in
#   the rows (`reasoning_content`) mends Nemotron, and not DeepSeek, whose templates drop it.
# So: tune on rows with reasoning, or open generation as the training text does; and check `text.startswith(prompt)`.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check --no-deps trl==1.16.0 2>/dev/null
"$folder/venv/bin/pip" install -q --disable-pip-version-check transformers==5.24.0 jinja2==3.1.6 2>/dev/null
cd "$folder"
"$folder/venv/bin/python" - 2>"$folder/noise" <<'PY' || { tail -5 "$folder/noise"; exit 1; }
import importlib.util, os, sys
from importlib.metadata import version
from transformers.utils.chat_template_utils import render_jinja_template

print("trl", version("trl"), "transformers", version("transformers"))
folder = os.path.join(os.path.dirname(importlib.util.find_spec("trl").origin), "chat_templates")
question = {"role": "user", "content": "What is 1 + 2?"}
answer = {"role": "assistant", "content": "Three."}


def differs(name, reply):
    """Where the prompt leaves the trained text -> (rest of the prompt, rest of the text), or None: it does not."""
    template = open(os.path.join(folder, name), encoding="utf-8").read()
    def render(chat, opened):
        return render_jinja_template(conversations=[chat], chat_template=template, add_generation_prompt=opened,
                                     bos_token="<s>", eos_token="</s>")[0][0]
    prompt, text = render([question], True), render([question, reply], False)
    shared = len(os.path.commonprefix([prompt, text]))
    return None if shared == len(prompt) else (prompt[max(0, shared - 8):], text[max(0, shared - 8):])


without, despite, held, other = [], [], [], []
for name in sorted(f for f in os.listdir(folder) if f.endswith("_training.jinja")):
    short = name.removesuffix("_training.jinja")
    try:
        broken = differs(name, answer)
    except Exception as error:  # templates of image models want content in parts
        other.append(short)
        continue
    if broken is None:
        held.append(short)
        continue
    without.append(short)
    mended = differs(name, {**answer, "reasoning_content": "One and two are three."}) is None
    despite += [] if mended else [short]
    print(f"{short:24} prompt ends ...{broken[0]!r}; trained ...{broken[1]!r}; with reasoning {'it fits' if mended else 'it does not fit either'}")
print(f"{len(held)} templates keep the property ({', '.join(held)}); not rendered: {', '.join(other) or 'none'}")
expected = ["deepseek_r1_distill", "deepseekv3", "nemotron_3_5_lightning", "nemotron_3_nano", "nemotron_3_super", "nemotron_3_ultra"]
sys.exit(0 if without == expected and despite == expected[:2] else 1)
PY
