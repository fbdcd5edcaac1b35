#!/usr/bin/env bash
# datasets reads a date in JSON lines as a datetime, and transformers writes "<datetime>" for it into the trained call.
#
# Guess before: "date": "2024-04-01" in a JSON lines file is a text, and stays one when `features` says `Value("string")`;
#   a template that is handed something else raises, as `tojson` always did for what JSON does not know.
# What happens: `load_dataset("json")` of datasets 5.2 makes a timestamp of a text column in which all values look like
#   dates, inside arguments too, as pyarrow's reader does. "+02:00" is moved to UTC, and `features` with strings does not
#   give the text back, but "2024-04-01 00:00:00". New since the patch release 5.22.2 of transformers:
#   `apply_chat_template` puts the name of the type in place of a value that is no plain JSON. Until 5.22.1 19 of TRL's 45
#   template files that write arguments raised on a datetime (26 wrote midnight); now none does, and all 45 write
#   "<datetime>". A policy tuned on such rows learns to call `book(date="<datetime>")`. In a column of gold answers a date
#   is equal to nothing that a policy can write: reward 0 for each right answer, and no error. One row more ("tomorrow"),
#   or messages whose keys differ, and all is text again, so a sample of a file says nothing about the file; rows that
#   datasets itself wrote (`to_json`) have the same keys everywhere. (That texts become timestamps is known, issues 2799
#   of datasets and 46698 of Arrow; no report was found of the placeholder in a call.)
# So: make rows with `Dataset.from_list([json.loads(line) for line in file])`, which keeps text, or look for "timestamp" in
#   `dataset.features`; and print one rendered row.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/pip" install -q --disable-pip-version-check "$@" 2>>"$folder/noise" || { tail -3 "$folder/noise"; exit 1; }; }
pip datasets==5.2.0 transformers==5.24.0 tokenizers==0.23.3 jinja2==3.1.6
pip --no-deps trl==1.16.0
pip --no-deps --target "$folder/before" transformers==5.22.0
cd "$folder"
cat >render.py <<'PY'
"""Writes each row by each of TRL's templates that write a call's arguments; prints the texts as JSON."""
import datetime, glob, importlib.util, json, os, sys
import transformers
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

plain = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"?": 0}, unk_token="?")), bos_token="<s>", eos_token="</s>")
files = sorted(glob.glob(os.path.join(os.path.dirname(importlib.util.find_spec("trl").origin), "chat_templates", "*.jinja")))


def written(call):
    texts = {}
    for file in files:
        with open(file, encoding="utf-8") as template:
            rows = [{"role": "user", "content": "Book it."}, {"role": "assistant", "content": "", "tool_calls": [call]}]
            try:
                texts[os.path.basename(file)[:-6]] = plain.apply_chat_template(rows, chat_template=template.read(), tokenize=False)
            except Exception as error:
                texts[os.path.basename(file)[:-6]] = type(error).__name__
    return texts


def call(date):
    return {"type": "function", "function": {"name": "book", "arguments": {"date": date, "city": "Rome"}}}


texts, dates = written(call("2031-07-09")), written(call(datetime.datetime(2031, 7, 9)))
able = [name for name, text in texts.items() if "2031-07-09" in text]
print(json.dumps({"version": transformers.__version__, "able": len(able),
                  "example": dates["qwen3"].split("<tool_call>")[-1].split("</tool_call>")[0].strip(),
                  "placeholder": sum("<datetime>" in dates[name] for name in able),
                  "midnight": sum("2031-07-09 00:00:00" in dates[name] for name in able),
                  "raised": sum(dates[name] == "TypeError" for name in able)}))
PY
export TRANSFORMERS_VERBOSITY=error HF_DATASETS_DISABLE_PROGRESS_BARS=1 HF_HOME="$folder/home"
"$folder/venv/bin/python" render.py >now.json 2>>noise || { tail -5 noise; exit 1; }
PYTHONPATH="$folder/before" "$folder/venv/bin/python" render.py >then.json 2>>noise || { tail -5 noise; exit 1; }
"$folder/venv/bin/python" - 2>>noise <<'PY' || { tail -5 noise; exit 1; }
import json, sys
from importlib.metadata import version
from datasets import Dataset, Features, Value, load_dataset

print(", ".join(f"{name} {version(name)}" for name in ("datasets", "pyarrow", "transformers", "trl")))


def read(name, rows, **more):
    with open(name, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return load_dataset("json", data_files=name, split="train", **more)


def kind(value):
    return f"{type(value).__name__} {str(value)!r}"


answers = [{"answer": "2024-04-01"}, {"answer": "2024-05-02"}]
gold = read("answers.jsonl", answers)
asked = read("asked.jsonl", answers, features=Features({"answer": Value("string")}))
mixed = read("mixed.jsonl", [*answers, {"answer": "tomorrow"}])
moved = read("moved.jsonl", [{"answer": "2024-04-01T09:30:00+02:00"}])
kept = Dataset.from_list(answers)
print(f'a file with "2024-04-01" in each row: {kind(gold[0]["answer"])}; its rewards for right answers: '
      f'{[float(row["answer"] == right["answer"]) for row, right in zip(gold, answers)]}')
print(f'  with features=Value("string"):      {kind(asked[0]["answer"])}')
print(f'  with one row "tomorrow" more:       {kind(mixed[0]["answer"])}')
print(f'  by Dataset.from_list:               {kind(kept[0]["answer"])}')
print(f'a file with "2024-04-01T09:30:00+02:00": {kind(moved[0]["answer"])}')


def row(name, arguments):
    call = {"type": "function", "function": {"name": name, "arguments": arguments}}
    return {"messages": [{"role": "user", "content": "Book it.", "tool_calls": None},
                         {"role": "assistant", "content": "", "tool_calls": [call]}]}


def date_of(dataset):
    return dataset[0]["messages"][1]["tool_calls"][0]["function"]["arguments"]["date"]


bookings = [row("book", {"date": date, "city": "Rome"}) for date in ("2024-04-01", "2024-05-02")]
Dataset.from_list(bookings).to_json("bookings.jsonl")
again = load_dataset("json", data_files="bookings.jsonl", split="train")
other = read("other.jsonl", [*bookings, row("pay", {"amount": 3})])
print(f"a call's date, written by to_json:    {kind(date_of(Dataset.from_list(bookings)))}")
print(f"  read again by load_dataset:         {kind(date_of(again))}")
print(f"  with a row of another tool more:    {kind(date_of(other))}")

sides = {}
for side in ("then", "now"):
    with open(f"{side}.json", encoding="utf-8") as file:
        sides[side] = json.load(file)
    print("transformers {version}: of TRL's {able} templates that write arguments, {placeholder} write \"<datetime>\", "
          "{midnight} \"2031-07-09 00:00:00\", {raised} raise; Qwen3's: {example}".format(**sides[side]))
now, then = sides["now"], sides["then"]
sys.exit(0 if [type(gold[0]["answer"]).__name__, asked[0]["answer"], mixed[0]["answer"], kept[0]["answer"]]
         == ["datetime", "2024-04-01 00:00:00", "2024-04-01", "2024-04-01"] and moved[0]["answer"].hour == 7
         and type(date_of(again)).__name__ == "datetime" and date_of(other) == "2024-04-01"
         and now["placeholder"] == now["able"] > 0 and not now["raised"]
         and not then["placeholder"] and then["raised"] > 0 else 1)
PY
