#!/usr/bin/env bash
# A Json column of datasets makes numbers of texts ("02139" is read as 2139) and rounds numbers to ten decimals (8.854e-12 is 0.0).
#
# Guess before: `Json()`, which datasets gives to a column of mixed values since 2026, gives back what was put in: long
#   integers, 3.0, the order of keys, dates, texts; so it is for the most part.
# What happens: datasets 5.2 takes a text in such a column for JSON already if it can be read as JSON. So in a column of gold
#   answers, some texts and some numbers, "42" comes out as 42, "3.10" as 3.1, "true" as True, "null" as None, "02139" as
#   2139 and "[1, 2]" as a list, while "yes" stays a text. `load_dataset("json")` chooses the type unasked, `from_list` with
#   `on_mixed_types="use_json"`. An argument that is a text in one call and a number in another
#   is read so, too. And numbers are written with ten decimals: 1/3 becomes 0.33333333330000003, 2e-11 is 0. That also holds
#   deep inside of `tool_calls`, where texts are safe, and for every number of a file of which another column is mixed: a
#   column of log-probabilities beside it stays float64 and loses all behind the tenth decimal. An integer beyond 64 bits
#   turns its whole object into a text. Of BFCL's 3,505 different gold values 54 texts come out as something else, and three
#   of its 3,152 gold calls have another number (27 more differ in the last digit, which pull request 8652, still open, is
#   about; no report of the rest was found). A reward compares the policy's right answer with the changed one, SFT trains
#   it, and nothing is said.
# So: keep such values as JSON text of your own making (`json.dumps`, then `json.loads`), and compare a file with what was read.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/pip" install -q --no-compile --disable-pip-version-check "$@" 2>>"$folder/noise" || { tail -3 "$folder/noise"; exit 1; }; }
pip datasets==5.2.0 pandas==3.1.1 pyarrow==26.0.1
pip --no-deps bfcl-eval==2026.3.23
cd "$folder"
HF_HOME="$folder" HF_DATASETS_OFFLINE=1 HF_DATASETS_DISABLE_PROGRESS_BARS=1 "$folder/venv/bin/python" -W ignore - 2>>noise <<'PY' || { tail -5 noise; exit 1; }
import importlib.util, json, sys
from importlib.metadata import version
from pathlib import Path
from datasets import Dataset, Features, Json, List, load_dataset

print(", ".join(f"{name} {version(name)}" for name in ("datasets", "pandas", "pyarrow", "bfcl-eval")))
data = Path(importlib.util.find_spec("bfcl_eval").origin).parent / "data"


def read(rows, name):
    """The rows as `load_dataset` reads them from a file of JSON lines."""
    Path(f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return load_dataset("json", data_files=f"{name}.jsonl", split="train")


def changed(before, after):
    return [(old, new) for old, new in zip(before, after, strict=True) if json.dumps(old, sort_keys=True) != json.dumps(new, sort_keys=True)]


answers = ["42", "3.10", "true", "null", "02139", "[1, 2]", "yes", 7, 1 / 3, 2e-11]
loaded = read([{"answer": answer} for answer in answers], "answers")
listed = Dataset.from_list([{"answer": answer} for answer in answers], on_mixed_types="use_json")
print("answers, as", loaded.features["answer"])
for answer, out in zip(answers, loaded["answer"]):
    print(f"  {answer!r:22} -> {out!r}")
calls = [{"tool_calls": [{"name": "f", "arguments": {"id": "42", "step": 2e-11}}]}, {"tool_calls": [{"name": "g", "arguments": {"id": 5, "step": 1 / 3}}]}]
print("the same names, other types:", read(calls, "calls")["tool_calls"][0])
nested = Dataset.from_list([{"tool_calls": [{"id": "42", "step": 2e-11}]}, {"tool_calls": [{"long": 2**70}]}], features=Features({"tool_calls": List(Json())}))
print("inside of a Json object:    ", nested[0]["tool_calls"], nested[1]["tool_calls"])
beside = read([{"label": 1, "logprob": -0.123456789012345}, {"label": "a", "logprob": -2e-11}], "beside")
print("beside a mixed column:      ", beside.features["logprob"], list(beside["logprob"]))
kept = [json.loads(text) for text in Dataset.from_list([{"answer": json.dumps(answer)} for answer in answers])["answer"]]


def plain(value):
    """An accepted value of the key as a model would write it: in objects the first choice of each field."""
    if isinstance(value, dict):
        return {name: plain(choices[0]) if isinstance(choices, list) else choices
                for name, choices in value.items() if choices != [""] and not (isinstance(choices, list) and choices[0] == "")}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


values, gold = {}, []
for category in ("simple_python", "multiple", "parallel", "parallel_multiple", "live_simple", "live_multiple", "live_parallel", "live_parallel_multiple"):
    for line in (data / f"possible_answer/BFCL_v4_{category}.json").read_text(encoding="utf-8").splitlines():
        for call in json.loads(line)["ground_truth"]:
            (name, arguments), = call.items()
            gold.append({"name": name, "arguments": {key: plain(choices[0]) for key, choices in arguments.items() if choices and choices[0] != ""}})
            for choices in arguments.values():
                values |= {json.dumps(plain(value), sort_keys=True): plain(value) for value in choices if value != ""}
values = list(values.values())


def far(old, new):
    """Another number, by more than its last digits."""
    if isinstance(old, dict):
        return any(far(old[key], new[key]) for key in old)
    if isinstance(old, list):
        return any(map(far, old, new))
    return isinstance(old, float) and abs(old - new) > 1e-12 * abs(old)


wrong = changed(values, read([{"gold": value} for value in values], "values")["gold"])
texts = [pair for pair in wrong if isinstance(pair[0], str)]
print(f"BFCL's {len(values)} different gold values in a column: {len(wrong)} come out changed, {len(texts)} of them texts:")
print("  " + ", ".join(f"{old!r} -> {new!r}" for old, new in texts[::max(1, len(texts) // 8)][:8]))
print("  and by more than the last digit " + ", ".join(f"{old!r} -> {new!r}" for old, new in wrong if not isinstance(old, str) and far(old, new)))
rows = [row["tool_calls"][0] for row in read([{"tool_calls": [call]} for call in gold], "gold")]
numbers = changed(gold, rows)
print(f"its {len(gold)} gold calls in a column `tool_calls`: {len(numbers)} have another number, {sum(far(*pair) for pair in numbers)} by more than the last digit:")
for old, new in sorted(numbers, key=lambda pair: not far(*pair))[:4]:
    print("  " + ", ".join(f"{key}={value!r} -> {new['arguments'][key]!r}" for key, value in old["arguments"].items() if value != new["arguments"].get(key)))
expected = [42, 3.1, True, None, 2139, [1, 2], "yes", 7, 0.33333333330000003, 0.0]
sys.exit(0 if list(loaded["answer"]) == list(listed["answer"]) == expected and kept == answers and texts and numbers and list(beside["logprob"]) == [-0.123456789, 0.0]
         and nested[0]["tool_calls"] == [{"id": "42", "step": 0.0}] and isinstance(nested[1]["tool_calls"][0], str) else 1)
PY
