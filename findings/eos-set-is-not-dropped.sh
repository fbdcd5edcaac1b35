#!/usr/bin/env bash
# `tokenizer.eos_token = "</tool_call>"` makes it the end token, and still `skip_special_tokens=True` keeps it, until it is saved.
#
# Guess before: the end token is special by definition; set as eos_token, it is dropped by `decode(skip_special_tokens=True)`,
#   whatever the added token was before.
# What happens: tokens such as `</tool_call>` are added tokens that are not special (Qwen ships them so, that a parser can
#   see them). Assigned to `eos_token`, or named in the constructor, such a token is in `all_special_ids`, but decoding asks
#   the backend, where it is not special: it stays at the end of every text. After save and load the same settings drop
#   it. So a reward function or a parser sees another text while training than the one who loads the checkpoint sees.
# So: `tokenizer.add_special_tokens({"eos_token": ...})`, which tells the backend too; or strip the token by its id.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check transformers==5.24.0 tokenizers==0.23.3 2>/dev/null
cd "$folder"
"$folder/venv/bin/python" - 2>"$folder/noise" <<'PY' || { tail -5 "$folder/noise"; exit 1; }
import sys, tempfile
from importlib.metadata import version
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

for package in ("transformers", "tokenizers"):
    print(package, version(package))


def tokenizer(**roles):
    byte_level = Tokenizer(models.BPE())
    byte_level.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    byte_level.decoder = decoders.ByteLevel()
    byte_level.train_from_iterator(["x"], trainers.BpeTrainer(
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<pad>"], show_progress=False))
    byte_level.add_tokens([AddedToken("</tool_call>", special=False, normalized=False)])
    return PreTrainedTokenizerFast(tokenizer_object=byte_level, pad_token="<pad>", **roles)


assigned = tokenizer()
assigned.eos_token = "</tool_call>"
place = tempfile.mkdtemp(dir=".")
assigned.save_pretrained(place)
added = tokenizer()
added.add_special_tokens({"eos_token": "</tool_call>"})
texts = {}
for name, each in (("assigned", assigned), ("in the constructor", tokenizer(eos_token="</tool_call>")),
                   ("assigned, saved, loaded", AutoTokenizer.from_pretrained(place)), ("add_special_tokens", added)):
    ids = each('{"name": "f"}</tool_call>')["input_ids"]
    texts[name] = each.decode(ids, skip_special_tokens=True)
    print(f"{name:24} last id is the end: {ids[-1] == each.eos_token_id}; in all_special_ids: {ids[-1] in each.all_special_ids}; decoded {texts[name]!r}")
kept = [name for name, text in texts.items() if text.endswith("</tool_call>")]
sys.exit(0 if kept == ["assigned", "in the constructor"] else 1)
PY
