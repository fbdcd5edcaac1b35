#!/usr/bin/env bash
# mlx-lm 0.32 hands a tool another number than the model wrote, from 17 digits on, with Qwen3.5 to 3.8, Qwen3-Coder and Nemotron 3.
#
# Guess before: an integer argument comes back digit for digit; the schema says integer, and Python's integers have no limit.
# What happens: mlx-lm 0.32.2 reads an integer of these families as a floating point number and makes an integer of that,
#   so 1234567890123456789 arrives as 1234567890123456768. Ids of Discord and X have 17 to 19 digits, nanosecond timestamps
#   19: of random ids of 17 digits 85% are changed, of 18 digits 98%, of 19 99.9%. It is valid JSON of the right type, there
#   is no warning, and a tool answers "no such message", or acts on another one; asking again gives the same. mlx-lm 0.31.3
#   read these digits right: the change came with pull request 1417, which lets "140.0" pass for 140. With the families
#   whose calls are JSON or Python text (Qwen3, GLM 4.5, LFM2, Gemma 4) nothing is lost, so an agent that was tested
#   with Qwen3 fails with Qwen3.5. Arguments of the type "number", and optional ones, whose type is a list, differ, too:
#   the first loses digits in both versions, the second takes the text "2024" for a number. (Hermes Agent had the same
#   fault, its issue 55314; for mlx-lm no report was found. mlx-lm runs on Linux without a GPU as well, as here.)
# So: declare ids as strings, or read the arguments from the text yourself; and send one id of 19 digits through before use.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/pip" install -q --no-compile --disable-pip-version-check "$@" 2>>"$folder/noise" || { tail -3 "$folder/noise"; exit 1; }; }
pip mlx==0.32.4 mlx-cpu==0.32.4 transformers==5.24.0 numpy==2.4.6 jinja2==3.1.6 sentencepiece==0.2.3 protobuf==7.36.2 \
  pyyaml==6.0.4 regex==2026.11.19 tqdm==4.70.1
pip --no-deps mlx-lm==0.32.2 trl==1.16.0
pip --no-deps --target "$folder/old" mlx-lm==0.31.3
cd "$folder"
cat > ids.py <<'PY'
import importlib.util, json, random, sys, tempfile
from importlib.metadata import version
from pathlib import Path
from mlx_lm.server import ToolCallFormatter
from mlx_lm.tokenizer_utils import load
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

print(", ".join(f"{name} {version(name)}" for name in ("mlx-lm", "mlx", "transformers", "trl")))
templates = Path(importlib.util.find_spec("trl").origin).parent / "chat_templates"
plain = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"?": 0}, unk_token="?")), unk_token="?")
TYPES = {"message_id": "integer", "amount": "number", "year": ["string", "null"]}
TOOLS = [{"type": "function", "function": {"name": "pin", "description": "Pin a message.", "parameters": {
    "type": "object", "properties": {name: {"type": kind, "description": name} for name, kind in TYPES.items()}}}}]


def family(name):
    """The family's template, and the tool parser that mlx-lm chooses for it."""
    folder = Path(tempfile.mkdtemp(dir="."))
    plain.chat_template = (templates / f"{name}.jinja").read_text(encoding="utf-8")
    plain.save_pretrained(folder)
    return load(folder)


def arrives(tokenizer, arguments):
    """What mlx_lm.server sends for the call as the family's own template writes it."""
    call = {"type": "function", "id": "call00000", "function": {"name": "pin", "arguments": arguments}}
    text = tokenizer.apply_chat_template([{"role": "user", "content": "Go."}, {"role": "assistant", "content": "", "tool_calls": [call]}],
                                         tools=TOOLS, tokenize=False)
    body = text[text.rindex(tokenizer.tool_call_start) + len(tokenizer.tool_call_start):].split(tokenizer.tool_call_end or "\0")[0]
    (sent,) = ToolCallFormatter(tokenizer.tool_parser, TOOLS)([body])
    return json.loads(sent["function"]["arguments"])


draw = random.Random(0)
ID = 1234567890123456789
changed = {}
for name in sys.argv[1:]:
    tokenizer = family(name)
    changed[name] = arrives(tokenizer, {"message_id": ID}) != {"message_id": ID}
    print(f"  {name:20} parser {tokenizer.tool_parser.__module__.rsplit('.')[-1]:12} {ID} arrives as "
          f"{arrives(tokenizer, {'message_id': ID})['message_id']}")
tokenizer = family("qwen3_5_think")
share = {}
for digits in (10, 15, 16, 17, 18, 19):
    ids = [draw.randrange(10 ** (digits - 1), 10 ** digits) for _ in range(2000)]
    share[digits] = sum(arrives(tokenizer, {"message_id": one})["message_id"] != one for one in ids) / len(ids)
print("  random ids that are changed, by their number of digits, qwen3_5:", ", ".join(f"{digits}: {part:.1%}" for digits, part in share.items()))
others = arrives(tokenizer, {"amount": ID, "year": "2024"})
print("  a number, and a text that may be null, qwen3_5:", others)
Path(f"{version('mlx-lm')}.json").write_text(json.dumps({"changed": changed, "share": list(share.values()), "others": others}))
PY
export TRANSFORMERS_VERBOSITY=error
for path in "" "$folder/old"; do
  PYTHONPATH=$path "$folder/venv/bin/python" -W ignore ids.py qwen3_5_think qwen3_6 qwen3_8 nemotron_3_nano qwen3 glm4moe lfm2_v2 gemma4_v5 \
    2>>noise || { tail -5 noise; exit 1; }
done
"$folder/venv/bin/python" - <<'PY'
import json, sys
new, old = (json.load(open(f"{version}.json")) for version in ("0.32.2", "0.31.3"))
hit = [name for name, wrong in new["changed"].items() if wrong]
print("ids are changed by 0.32.2 with", ", ".join(hit), "and by 0.31.3 with", ", ".join(n for n, wrong in old["changed"].items() if wrong) or "none")
_, fifteen, _, seventeen, eighteen, nineteen = new["share"]
sys.exit(0 if hit == ["qwen3_5_think", "qwen3_6", "qwen3_8", "nemotron_3_nano"] and fifteen == 0 and seventeen > 0.8
         and eighteen > 0.9 and nineteen > 0.99 and not any(old["share"]) and not any(old["changed"].values())
         and new["others"] == {"amount": 1234567890123456768, "year": 2024} else 1)
PY
