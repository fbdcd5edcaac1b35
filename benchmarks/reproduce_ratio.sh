#!/usr/bin/env bash
# What shared prompts save of `kit.py reproduce`: stock and shared at the same time, in two fresh clones of the last
# commit, one thread and one core each. It wants both cores for itself, for some 20 minutes.
#   bash benchmarks/reproduce_ratio.sh OUT        -> OUT/stock.json, OUT/shared.json: {notebook: seconds by the clock}
# REPRODUCE_ARGS="--quick --only 00" tries it out small. Needs the Python of an environment with the kit's packages.
set -eu
root=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
mkdir -p "$1"
out=$(cd "$1" && pwd)
top=$(mktemp -d)
trap 'rm -rf "$top"' EXIT

for side in stock shared; do
    git clone -q "$root" "$top/$side"
    # A .venv that only looks into the one in use, with the stamp that `kit.py` looks for: nothing is installed.
    python -m venv --without-pip "$top/$side/.venv"
    site=$("$top/$side/.venv/bin/python" -c "import site; print(site.getsitepackages()[0])")
    python -c "import site; print('\n'.join(site.getsitepackages()))" > "$site/shared.pth"
    (cd "$top/$side" && cat requirements.txt pyproject.toml | sha256sum | cut -d' ' -f1 | tr -d '\n' > .venv/installed.txt)
done
# Stock: no family of models is known, so that every prompt is computed for every rollout.
printf '\n\nFAMILIES = ()\n' >> "$top/stock/toolexpander_lite/models/shared_prompt.py"

one_side() {  # side, core
    cd "$top/$1"
    export PYTHONPATH="$PWD" OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 PYTHONUNBUFFERED=1
    taskset -c "$2" .venv/bin/python kit.py reproduce ${REPRODUCE_ARGS:-} 2> "$out/$1.err" | python -c '
import json, re, sys
seconds = {}
for line in sys.stdin:
    if found := re.match(r"(\S+\.ipynb): (\d+) s; ", line):
        seconds[found[1]] = int(found[2])
        json.dump({**seconds, "all": sum(seconds.values())}, open(sys.argv[1], "w"), indent=1)
' "$out/$1.json"
}
one_side stock 0 &
one_side shared 1 &
wait
