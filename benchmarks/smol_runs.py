"""SmolLM2-135M: a warm start, then every arm and seed by the command line, then the evaluations.

    python benchmarks/smol_runs.py --model MODEL_FOLDER --data-path rlla_sft.json --minutes 9 --workers 6
    python benchmarks/smol_runs.py --profile smol-cpu --steps 60 --seeds 0,1 --workers 2 --minutes 600
    python benchmarks/smol_runs.py --tiny --out out/smol-tiny

Needs no network once the model, the rows and the wheel of BFCL are here. Nothing here trains: each piece of work is one
`python -m toolexpander_lite` command, and the folders it leaves are ordinary run directories. A run is made in slices
that end on a checkpoint, each as long as the time left allows by what the slice before it took; the next call of this
script goes on where the last one stopped.

Nothing is started once `--minutes` are over, nor what would end later by what the last of its kind (an arm's steps, one
benchmark) took in this call. The first of its kind has no such measure and is only started in time: the warm start, an
arm's first slice and the first model's scoring may end later, so leave room for them. Of what is killed, `train`,
`bfcl` and `api-bank` go on where they were, the others begin anew.

Every model (as published, warm-started, trained) is scored on held-out rows and on the benchmarks asked for. A recipe
that invites examples is scored with the invitation it was trained with and, as `NAME-plain`, without.
"""

import argparse
import json
import shlex
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from toolexpander_lite.base.errors import KitError, RunError
from toolexpander_lite.base.runs import write_json
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.training.sessions import newest_checkpoint, next_target, updates_per_batch
from toolexpander_lite.variants.all_recipes import get_recipe


def steps_done(run):
    """Batches of rollouts that a run directory's summary tells of; 0 when there is none."""
    summary = Path(run) / "summary.json"
    return json.loads(summary.read_text())["steps"] // updates_per_batch(run) if summary.exists() else 0


def call(command, log):
    """`python -m toolexpander_lite` with these words -> exit code; what it prints is added to the file `log`."""
    line = [sys.executable, "-m", "toolexpander_lite", *map(str, command)]
    with log.open("a") as file:
        file.write(f"$ {shlex.join(line[1:])}\n")
        file.flush()
        return subprocess.run(line, stdout=file, stderr=subprocess.STDOUT).returncode


# Of BFCL: the two that the project's aim is about, and what a model does when no tool fits, which never stays out.
CATEGORIES = ("simple_python", "multiple", "irrelevance")
MAX_NEW_TOKENS = 192  # of an answer to a benchmark's question (our assumption: an example, a thought, a few calls)
EXECUTED_TOKENS = 256  # of an answer to a task: three changes are up to 150 tokens of calls, after the thought
BENCHMARKS = ("bfcl", "api-bank", "executed")


class Plan:
    """What the command line of this script asks for."""

    def __init__(self, arguments):
        self.out, self.steps, self.every = arguments.out, arguments.steps, arguments.eval_every
        self.end = time.monotonic() + 60 * arguments.minutes
        self.model = arguments.model
        self.profile, self.source = ["--profile", arguments.profile], get_profile(arguments.profile).data
        self.data = ["--data-path", arguments.data_path] if arguments.data_path else []
        self.warm_steps, self.warm_seed = arguments.warm_start_steps, arguments.seeds[0]
        self.eval_prompts = arguments.eval_prompts
        self.benchmarks, self.limit = arguments.benchmarks, arguments.limit
        self.api_bank = ["--levels", 1, "--data-path", arguments.api_bank] if arguments.api_bank else []
        self.log = self.out / "commands.log"
        self.took = {}  # arm or kind of scoring -> seconds of its last step, or of its last whole command, in this call

    def left(self):
        """Seconds until nothing is started any more; below 0 when that is so."""
        return self.end - time.monotonic()

    def warm_start(self):
        """The folder the arms start from: of the warm start, or the model itself if none is wanted.

        None when it has not been made and no time is left to make it.

        Its seed is the first of --seeds, so that a later call with other seeds on a fresh machine, where ignored
        files (the weights) are gone, makes a warm start of its own.

        Raises:
            RunError: it failed, or its logs are here and its weights are not.
        """
        if not self.warm_steps:
            return self.model
        folder = self.out / "warm-start" / f"seed-{self.warm_seed}"
        if folder.exists() and not (folder / "final").exists():
            raise RunError(f"{folder} has no weights: remove it, or put the folder final/ back")
        if steps_done(folder):
            return folder / "final"
        if self.left() <= 0:
            return None
        words = ["warm-start", *self.profile, "--model", self.model, *self.data, "--seed", self.warm_seed,
                 "--warm-start-steps", self.warm_steps, "--out", folder]  # fmt: skip
        if call(words, self.log):
            raise RunError(f"the warm start failed, see {self.log}; remove {folder} before the next try")
        return folder / "final"

    def train(self, arm, seed, start):
        """Train one run as far as the time allows -> "done", "stopped" or "failed"."""
        run = self.out / arm / f"seed-{seed}"
        while steps_done(run) < self.steps:
            done = newest_checkpoint(run)  # a run that was killed has no summary
            target = next_target(done, self.steps, self.every, self.took.get(arm), self.left())
            if target is None or start is None:
                return "stopped"
            began = time.monotonic()
            words = ["train", "--recipe", arm, *self.profile, "--model", start, *self.data, "--steps", target,
                     "--eval-every", self.every, "--seed", seed, "--out", run, "--resume"]  # fmt: skip
            if call(words, self.log):
                return "failed"
            self.took[arm] = (time.monotonic() - began) / max(1, target - done)  # start-up and evaluations counted
        return "done"

    def scorings(self, name, model, invite):
        """The commands that score one model -> [(file that is there when it is done, words)]."""
        folder = self.out / "evaluations" / name
        style = ["--style", "example" if invite else "think"]
        asked = [*self.profile, "--model", model, *style]
        held_out = ["evaluate", *asked, *self.data, "--eval-prompts", self.eval_prompts]
        few = ["--limit", self.limit] if self.limit else []
        scorings = {
            "bfcl": (folder / "bfcl" / "scores.json",
                     ["bfcl", *asked, *few, "--max-new-tokens", MAX_NEW_TOKENS, "--categories", *CATEGORIES]),
            "api-bank": (folder / "api-bank" / "scores.json",
                         ["api-bank", *asked, *few, "--max-new-tokens", MAX_NEW_TOKENS, *self.api_bank]),
            "executed": (folder / "executed.jsonl",
                         ["executed", *asked, *few, "--max-new-tokens", EXECUTED_TOKENS]),
        }  # fmt: skip
        found = [(folder / "held_out.json", held_out)]
        against = [f"bfcl:{category}" for category in CATEGORIES] if "bfcl" in self.benchmarks else []
        if "api-bank" in self.benchmarks:
            against.append("api-bank:1" + (f"={self.api_bank[-1]}" if self.api_bank else ""))
        if name == "base" and against and self.source != "nano":  # once: which questions stand among the rows?
            twins = self.out / "contamination.json"
            found.append((twins, ["data", self.source, *self.data, "--against", *against, "--out", twins]))
        for benchmark in self.benchmarks:
            file, words = scorings[benchmark]
            found.append((file, [*words, "--out", file.parent if file.name == "scores.json" else file]))
        return found

    def evaluate(self, name, model, invite=False):
        """Score a model on held-out rows and on the benchmarks -> "done", "stopped" or "failed"."""
        if model is None:  # no warm start yet
            return "stopped"
        if isinstance(model, Path) and not model.exists():
            return "left out: its weights are not on this machine"
        for file, words in self.scorings(name, model, invite):
            if file.exists():
                continue
            if self.left() <= self.took.get(words[0], 0):
                return "stopped"
            began = time.monotonic()
            if not self.score(file, words, {"model": str(model), "invite": invite}):
                return "failed"
            self.took[words[0]] = time.monotonic() - began
        return "done"

    def score(self, file, words, told):
        """Run one scoring, which leaves `file` -> did it go well? `told` goes into the file of held-out rows."""
        if words[0] != "evaluate":
            return not call(words, self.log)
        line = [sys.executable, "-m", "toolexpander_lite", *map(str, words)]
        done = subprocess.run(line, capture_output=True, text=True)
        if done.returncode:
            with self.log.open("a") as log:
                log.write(done.stderr)
            return False
        file.parent.mkdir(parents=True, exist_ok=True)  # only now: a folder of scores that is there holds one
        write_json(file, {**told, "prompts_at_most": self.eval_prompts, **json.loads(done.stdout)})
        return True


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="smol", help="smol (default) on a GPU, smol-cpu on two CPU cores")
    parser.add_argument("--model", default="smollm2", help="model folder, or smollm2 (Hub or installed wheel)")
    parser.add_argument("--data-path", help="local file of the profile's data source (ToolRL)")
    parser.add_argument("--recipes", default="grpo,toolexpander", help="arms, with commas")
    parser.add_argument("--seeds", default="0,1,2", help="with commas")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--eval-every", type=int, default=20, help="steps between evaluations and checkpoints")
    parser.add_argument("--warm-start-steps", type=int, default=30, help="0 when the model writes calls already")
    parser.add_argument("--eval-prompts", type=int, default=400, help="held-out rows of the last evaluation, at most")
    parser.add_argument("--benchmarks", default=",".join(BENCHMARKS), help="with commas; '' for held-out rows alone")
    parser.add_argument("--limit", type=int, help="so many questions of each benchmark's part, drawn at random")
    parser.add_argument("--api-bank", help="local file of API-Bank's level 1, instead of the published ones")
    parser.add_argument("--minutes", type=float, default=60, help="start nothing that would end later, see above")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time on the one GPU")
    parser.add_argument("--out", type=Path, help="default assets/runs/PROFILE-arms")
    parser.add_argument("--tiny", action="store_true", help="the same commands with the nano model, 4 steps, one seed")
    arguments = parser.parse_args()
    if arguments.tiny:
        arguments.profile = arguments.model = "nano-invited"  # toolexpander needs a policy that knows the invitation
        arguments.seeds, arguments.data_path = "0", None
        arguments.steps, arguments.eval_every, arguments.warm_start_steps, arguments.eval_prompts = 4, 2, 1, 2
    arguments.out = arguments.out or Path("assets/runs") / f"{arguments.profile}-arms"
    arguments.benchmarks = [name for name in arguments.benchmarks.split(",") if name]
    if unknown := set(arguments.benchmarks) - set(BENCHMARKS):
        parser.error(f"--benchmarks: {', '.join(sorted(unknown))}; choose of {', '.join(BENCHMARKS)}")
    arms, seeds = arguments.recipes.split(","), [int(seed) for seed in arguments.seeds.split(",")]
    arguments.seeds = seeds
    try:
        for arm in arms:
            get_recipe(arm)
        arguments.out.mkdir(parents=True, exist_ok=True)
        plan = Plan(arguments)
        start = plan.warm_start()
    except KitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    jobs = [(arm, seed) for seed in seeds for arm in arms]
    with ThreadPoolExecutor(arguments.workers) as pool:
        outcomes = dict(zip(jobs, pool.map(lambda job: plan.train(*job, start), jobs)))
        models = {"base": (arguments.model, False), f"warm-start-seed-{plan.warm_seed}": (start, False)}
        for (arm, seed), outcome in outcomes.items():
            if outcome == "done":
                name, final = f"{arm}-seed-{seed}", plan.out / arm / f"seed-{seed}" / "final"
                invited = get_recipe(arm).invite
                models |= {name: (final, invited)} | ({f"{name}-plain": (final, False)} if invited else {})
        scored = dict(zip(models, pool.map(lambda name: plan.evaluate(name, *models[name]), models)))
    for (arm, seed), outcome in outcomes.items():
        run = plan.out / arm / f"seed-{seed}"
        print(f"{arm} seed {seed}: {outcome}, {steps_done(run)} of {plan.steps} steps")
    for name, outcome in scored.items():
        print(f"evaluation of {name}: {outcome}")
    results = {*outcomes.values(), *scored.values()}
    print(f"failures are in {plan.log}" if "failed" in results else
          "call this again to go on" if "stopped" in results else "all is there")  # fmt: skip
    return 1 if "failed" in results else 0


if __name__ == "__main__":
    sys.exit(main())
