#!/usr/bin/env bash
# Tool calls from JSON lines to parquet by `datasets`: nested objects if all rows have the same keys, JSON text if two differ.
#
# Guess before: nested objects become nested columns in the parquet file, with null where a row lacks a key (as
#   `Dataset.from_list` makes them), and every reader of parquet sees the same rows.
# What happens: `load_dataset("json")` of datasets 5 notices objects whose keys differ from row to row, as the arguments of tool
#   calls do, and stores those in Arrow's extension type `arrow.json`. datasets itself decodes it everywhere. pyarrow
#   and pandas give the storage: `arguments` is a text in the middle of nested data. Which of the two it is depends on the
#   rows: a file with one tool is nested, the same file with one more row is not. And a text is a valid form of
#   `arguments` too (OpenAI's), so a chat template takes it, and one that ends in `| tojson` writes it quoted twice.
# So: read such files with `datasets`; or look for `arrow.json` in the schema and decode; never branch on a sample.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check datasets==5.2.0 pyarrow==26.0.1 pandas==3.1.1 jinja2==3.1.6 2>/dev/null
cd "$folder"
HF_DATASETS_DISABLE_PROGRESS_BARS=1 HF_HOME="$folder/hub" "$folder/venv/bin/python" - 2>"$folder/noise" <<'PY' || { tail -5 "$folder/noise"; exit 1; }
import json, sys
import datasets, jinja2, pandas, pyarrow
import pyarrow.parquet
from datasets import Dataset, load_dataset

for package in (datasets, pyarrow, pandas):
    print(package.__name__, package.__version__)


def row(name, arguments):
    return {"question": "?", "call": {"name": name, "arguments": arguments}}


FILES = {"one tool": [row("weather", {"city": "Lima"}), row("weather", {"city": "Rome"})],
         "two tools": [row("weather", {"city": "Lima"}), row("add", {"a": 1, "b": 2})]}
template = jinja2.Environment().from_string('{"name": "{{ call.name }}", "arguments": {{ call.arguments | tojson }}}')
seen = {}
for name, rows in FILES.items():
    stem = name.replace(" ", "-")
    with open(f"{stem}.jsonl", "w") as file:
        file.writelines(json.dumps(each) + "\n" for each in rows)
    load_dataset("json", data_files=f"{stem}.jsonl", split="train").to_parquet(f"{stem}.parquet")
    table = pyarrow.parquet.read_table(f"{stem}.parquet")
    seen[name] = {
        "pyarrow": table.to_pylist()[0]["call"]["arguments"],
        "pandas": pandas.read_parquet(f"{stem}.parquet")["call"][0]["arguments"],
        "datasets": load_dataset("parquet", data_files=f"{stem}.parquet", split="train")[0]["call"]["arguments"],
        "from_list": Dataset.from_list(rows)[0]["call"]["arguments"],
    }
    print(f"{name}: type of the arguments {table.schema.field('call').type.field('arguments').type}")
    for reader, arguments in seen[name].items():
        print(f"  first row by {reader:10} {arguments!r:42} in a template: {template.render(call={'name': 'weather', 'arguments': arguments})}")
city = {"city": "Lima"}
nested = all(arguments == city for arguments in seen["one tool"].values())
two = seen["two tools"]
texts = two["pyarrow"] == two["pandas"] == '{"city":"Lima"}'
sys.exit(0 if nested and texts and two["datasets"] == city and two["from_list"] == {**city, "a": None, "b": None} else 1)
PY
