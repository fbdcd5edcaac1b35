#!/usr/bin/env bash
# Beside a Qwen2 or Qwen3.5 config AutoTokenizer does not read tokenizer.json as it was saved: it takes the vocabulary only.
#
# Guess before: a tokenizer that was saved with `save_pretrained` comes back from AutoTokenizer as it was, whatever model lies
#   in the same folder; tokenizer.json is the whole tokenizer, and tokenizer_config.json names the plain class.
# What happens: for some model types transformers holds the declared class to be wrong and puts its own in. For qwen2 and
#   qwen3_5 that class builds a byte-level BPE anew, with Qwen's way of splitting, around the vocabulary and merges that it finds. A
#   tokenizer that cuts numbers in threes now cuts them into digits: other ids, from the same file, and texts still come
#   back right, so nothing shows but a worse model. A tokenizer of words reads every text as nothing at all. Qwen3, Llama,
#   Gemma, Mistral and others leave the file alone. No error and no warning.
# So: after a new tokenizer, a distillation onto Qwen2 or a tiny test model, compare ids before and after saving, or load with
#   `PreTrainedTokenizerFast.from_pretrained`.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check transformers==5.24.0 tokenizers==0.23.3 2>/dev/null
cd "$folder"
"$folder/venv/bin/python" - 2>"$folder/noise" <<'PY' || { tail -5 "$folder/noise"; exit 1; }
import json, os, sys, tempfile
from importlib.metadata import version
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

for package in ("transformers", "tokenizers"):
    print(package, version(package))
words = Tokenizer(models.WordLevel({"<unk>": 0, "<pad>": 1, "</s>": 2, "call": 3, "lima": 4}, unk_token="<unk>"))
words.pre_tokenizer = pre_tokenizers.Whitespace()
threes = Tokenizer(models.BPE())
threes.pre_tokenizer = pre_tokenizers.Sequence([
    pre_tokenizers.Split(Regex(r"\p{N}{1,3}|\s?\p{L}+|\s+"), "isolated"),
    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
threes.decoder = decoders.ByteLevel()
threes.train_from_iterator(["call 192 168 lima"] * 9, trainers.BpeTrainer(
    vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<pad>", "</s>"], show_progress=False))
rebuilt, by_hand = {}, []
for name, tokenizer, text in (("whole words", words, "call lima"), ("digits in threes", threes, "call 192168 lima")):
    place = tempfile.mkdtemp(dir=".")
    saved = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>")
    saved.save_pretrained(place)
    print(f"{name}: saved as {json.load(open(os.path.join(place, 'tokenizer_config.json')))['tokenizer_class']}, reads {saved.tokenize(text)}")
    for kind in ("qwen2", "qwen3_5", "qwen3", "llama", "gemma", "mistral", "gpt2", "phi3", "deepseek_v3"):
        with open(os.path.join(place, "config.json"), "w") as file:
            json.dump({"model_type": kind}, file)
        loaded = AutoTokenizer.from_pretrained(place)
        if loaded(text)["input_ids"] != saved(text)["input_ids"]:
            rebuilt.setdefault(name, []).append(kind)
            print(f"  beside {kind:8} {type(loaded).__name__:18} reads {loaded.tokenize(text)}, decoded {loaded.decode(loaded(text)['input_ids'])!r}")
    by_hand.append(PreTrainedTokenizerFast.from_pretrained(place)(text)["input_ids"] == saved(text)["input_ids"])
print("rebuilt beside:", rebuilt, "; PreTrainedTokenizerFast reads the same folder right:", all(by_hand))
both = ["qwen2", "qwen3_5"]
sys.exit(0 if rebuilt == {"whole words": both, "digits in threes": both} and all(by_hand) else 1)
PY
