"""Tables of the notebooks that take more than a line: rewards, self-written examples, runs, the real model.

`runs` is always a dict {arm: [run directory, ...]}, one directory per seed, as `runs.find_runs` gives it. "At the end"
is the mean over the last `statistics.END_STEPS` optimizer steps.
"""

import html
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd

from ..base.intervals import mean
from ..base.runs import evaluations, find_runs, first_at, read_json, read_log
from ..evaluation.accuracy import generate
from ..method.calls import REASONS, judge
from ..method.prompts import render_prompt
from ..method.rewards import conjunctive_reward
from ..training.profiles import PROFILES
from ..variants.baselines import graded_reward
from ..variants.other_self_examples import EXAMPLE_CLOSE, EXAMPLE_OPEN, judge_example, judge_examples
from ..worlds.nano_world import HARD_FAMILIES
from .plan import read_plan
from .statistics import at_the_end, hits

RUN_COLUMNS = (
    "study", "arm", "seed", "profile", "rollouts", "scan_rollouts", "tokens", "seconds", "zero_shot", "zero_shot_easy",
    "zero_shot_hard", "few_shot_hard", "hard_rows_before", "hard_rows_after", "stalled", "collapsed", "commit",
)  # fmt: skip
WRITES = 0.1  # a run whose example rate at the end is above this writes examples (our line; runs are far from it)


def reward_cases(sample, cases):
    """What each completion earns, and why -> DataFrame, one row per case; `cases`: {name: completion of the sample}."""
    rows = []
    for case, text in cases.items():
        columns = dict(prompts=[""], completions=[text], calls=[sample.calls], tools=[sample.tools])
        reason = judge(text, sample.calls, sample.tools).reason
        rows.append({"case": case, "reward": conjunctive_reward(**columns)[0], "graded": graded_reward(**columns)[0],
                     "reason": reason, "in words": REASONS[reason]})  # fmt: skip
    return pd.DataFrame(rows)


def example_rates(model, tokenizer, samples, visits=20, begun_visits=4, max_new_tokens=64):
    """How often does a policy write an example of its own, and what is an answer worth after one? -> dict.

    Every sample is asked `visits` times with the invitation, and `begun_visits` times with the example already opened.
    Sampled at temperature 1, so seed torch first. Keys: "rollouts", "with an example of its own" (share),
    "examples begun for it", "of these valid" (numbers), "right, given a valid example" (share; NaN if none is valid).
    """
    prompts = [render_prompt(s, tokenizer, invite=True) for s in samples]
    found = []
    for opening, times in (("", visits), (f"<think>{EXAMPLE_OPEN}", begun_visits)):
        texts = [opening + t for t in generate(model, tokenizer, [p + opening for p in prompts] * times,
                                               max_new_tokens, 1.0, 256)]  # fmt: skip
        verdicts = judge_examples(prompts * times, texts, [s.tools for s in samples] * times)
        valid = np.array([v.reason == "ok" for v in verdicts])
        right = np.array([judge(t, s.calls, s.tools).reason == "ok" for t, s in zip(texts, [*samples] * times)])
        found.append((valid, right))
    (free, _), (begun, right) = found
    return {
        "rollouts": len(free), "with an example of its own": free.mean(),
        "examples begun for it": len(begun), "of these valid": int(begun.sum()),
        "right, given a valid example": right[begun].mean() if begun.any() else np.nan,
    }  # fmt: skip


def completions_table(samples, prompts, texts):
    """HTML table: question, completion with its example marked, what became of the example and of the answer.

    `prompts` as rendered, `texts` whole completions. Completions are escaped: a policy may write any text.
    """
    opened, closed = html.escape(EXAMPLE_OPEN), html.escape(EXAMPLE_CLOSE)
    head = "".join(f"<th style='text-align:left'>{h}</th>" for h in ("question", "completion", "example", "answer"))
    body = ""
    for s, p, t in zip(samples, prompts, texts, strict=True):
        text = html.escape(t).replace(opened, f"<b>{opened}</b>").replace(closed, f"<b>{closed}</b>")
        cells = (html.escape(s.messages[-1]["content"]), f"<pre style='white-space:pre-wrap;margin:0'>{text}</pre>",
                 judge_example(t, p, s.tools).reason, judge(t, s.calls, s.tools).reason)  # fmt: skip
        body += "<tr>" + "".join(f"<td style='text-align:left;vertical-align:top'>{c}</td>" for c in cells) + "</tr>"
    return f"<table><tr>{head}</tr>{body}</table>"


def last_scores(run):
    """The last evaluation of a run -> dict, see `evaluate.evaluate`."""
    return evaluations(read_log(run))[-1][1]


def ends_table(runs):
    """One row per run -> DataFrame: arm, seed, run, the last evaluation's scores, what it spent until 0.9.

    Scores: hard, easy, demonstrated (hard, with one demonstration), bare (hard, not invited), examples. Spent on the
    way to the evaluation that first shows 0.9 on the hard families: rollouts, updates, tokens (with those of
    prompts), seconds. NaN is what a run has not.
    """
    rows = []
    for arm, run in ((arm, run) for arm, folders in runs.items() for run in folders):
        scores, spent = last_scores(run), defaultdict(lambda: np.nan, first_at(run, 0.9) or {})
        rows.append({
            "arm": arm, "seed": int(run.name.removeprefix("seed-")), "run": run, "hard": scores["zero_shot_hard"],
            "easy": scores["zero_shot_easy"], "demonstrated": scores.get("few_shot_hard", np.nan),
            "bare": scores.get("uninvited", {}).get("zero_shot_hard", np.nan),
            "examples": scores.get("examples", np.nan), "rollouts": spent["rollouts"], "updates": spent["step"],
            "tokens": spent["prompt_tokens"] + spent["completion_tokens"], "seconds": spent["seconds"],
        })  # fmt: skip
    return pd.DataFrame(rows)


def _by_arm(table, **columns):
    """A row per arm of `table`, in its order; `columns`: {name: (column, how)}."""
    return table.groupby("arm", sort=False).agg(**columns).reset_index()


def seeds_table(runs):
    """One row per run -> DataFrame: arm, seed, rollouts to 0.9 on the hard families (NaN: never), the rest at the end.

    "example rate" is the share of rollouts with a valid example, "hard" and "easy" the last evaluation's accuracies.
    """
    table = ends_table(runs).rename(columns={"rollouts": "rollouts to 0.9"})
    table["example rate"] = [at_the_end(run, "examples/rate") for run in table.run]
    return table[["arm", "seed", "rollouts to 0.9", "example rate", "hard", "easy"]]


def contents_table(runs):
    """What the examples at the end look like -> DataFrame, one row per arm.

    "right" and "senseless" are shares of the valid examples (see `ExampleBonus`), "seeds mostly senseless" counts the
    runs with more than half; all three look only at seeds that write examples (rate above WRITES).
    """
    table = ends_table(runs)
    for name in ("examples/rate", "examples/right", "examples/senseless", "completions/mean_length",
                 "completions/clipped_ratio"):  # fmt: skip
        table[name] = [at_the_end(run, name) for run in table.run]
    table["writes"] = table["examples/rate"] > WRITES
    shares = ["examples/right", "examples/senseless"]
    table[shares] = table[shares].where(table.writes)
    table["mostly"] = table["examples/senseless"] > 0.5
    return _by_arm(table, **{
        "seeds": ("seed", "size"), "seeds that write": ("writes", "sum"), "right": ("examples/right", "mean"),
        "senseless": ("examples/senseless", "mean"), "seeds mostly senseless": ("mostly", "sum"),
        "tokens per rollout": ("completions/mean_length", "mean"),
        "cut at the cap": ("completions/clipped_ratio", "mean"), "easy": ("easy", "mean"),
        "easy, worst seed": ("easy", "min"),
    })  # fmt: skip


def price_table(runs):
    """What an arm spends until 0.9 on the hard families, and what it ends with -> DataFrame, one row per arm.

    "to ..." columns: medians over the `reached` seeds (NaN if none), see `ends_table`; updates are optimizer steps. The
    others: means over all seeds at the last evaluation, "worst" beside them; "not invited" is NaN where no prompt
    invited in training.
    """
    ends = {"hard": "hard", "easy": "easy", "one demonstration": "demonstrated", "not invited": "bare"}
    columns = {"seeds": ("seed", "size"), "reached": ("rollouts", "count")}
    columns |= {f"to: {name}": (name, "median") for name in ("rollouts", "updates", "tokens", "seconds")}
    for name, column in ends.items():
        columns |= {name: (column, "mean")} | ({f"{name}, worst": (column, "min")} if name != "hard" else {})
    return _by_arm(ends_table(runs), **columns)


def leftovers_table(study, runs):
    """What else the runs leave behind whose settings a study compares -> DataFrame, one row per run and value.

    Columns: field, value, see the plan's `compare`; seed; senseless examples, of runs that write any; hard, not
    invited; hard, one demonstration; easy; families unlearnt: at 0.9 or more at one look, at 0.1 or less at the last.

    `study`: name of a plan; `runs`: the folder that holds the studies.
    """
    rows = []
    for field, value, folder, arm in [(field, *row) for field, _, arms in read_plan(study).compare for row in arms]:
        for run in find_runs(Path(runs) / folder).get(arm, []):
            looks = [scores for _, scores in evaluations(read_log(run))]
            best, last = pd.DataFrame([scores["families"] for scores in looks]).max(), looks[-1]
            writes = at_the_end(run, "examples/rate") > WRITES
            rows.append({
                "field": field, "value": value, "seed": run.name,
                "senseless examples": at_the_end(run, "examples/senseless") if writes else np.nan,
                "hard, not invited": last["uninvited"]["zero_shot_hard"],
                "hard, one demonstration": last["few_shot_hard"], "easy": last["zero_shot_easy"],
                "families unlearnt": ((best >= 0.9) & (pd.Series(last["families"]) <= 0.1)).mean(),
            })  # fmt: skip
    return pd.DataFrame(rows)


def profiles_table(runs):
    """The main profiles, and how many GRPO runs of each are committed -> DataFrame of texts.

    "Other sizes": prompts a step, lengths or tools were not those of the profile as it stands. `runs`: the folder that
    holds the studies.
    """
    sizes = ("prompts_per_step", "max_prompt_tokens", "demo_room", "max_completion_length", "max_tools")
    rows = []
    configs = [read_json(run / "config.json") for study in Path(runs).iterdir()
               for folders in find_runs(study).values() for run in folders]  # fmt: skip
    for p in map(PROFILES.get, ("nano", "nano-rare", "smol-cpu", "smol", "t4", "gpu24")):
        of = [c for c in configs if c["profile"]["name"] == p.name and "recipe" in c]  # no warm starts
        other = sum(any(c["profile"].get(name) != getattr(p, name) for name in sizes) for c in of)
        on_gpu = sum("compute capability" in c.get("machine", "") or c.get("device") == "cuda" for c in of)
        run = f"{len(of)}, {on_gpu or 'none'} on a GPU" + f", {other} with other sizes" * bool(other)
        rows.append({
            "profile": p.name, "model": p.model, "weights": p.quantization or p.dtype,
            "LoRA rank": p.lora_rank or "none, in full", "prompts a step": p.prompts_per_step,
            "tokens at most: prompt (+ demonstration) + answer":
                f"{p.max_prompt_tokens} (+ {p.demo_room}) + {p.max_completion_length}",
            "steps": p.steps,
            "committed runs": "see notebooks 01 to 04" if p.data == "nano" else run if of else "not run yet",
        })  # fmt: skip
    return pd.DataFrame(rows)


def before_and_after(runs):
    """Held-out questions before and after single runs -> DataFrame, a row per run; of nano runs one per kind of family.

    `runs`: {recipe: run directory}.
    """
    rows = []
    for recipe, run in runs.items():
        log, config = read_log(run), read_json(run / "config.json")
        first, *_, last = (scores for _, scores in evaluations(log))
        kinds = {"all": 1.0}
        if config["profile"]["data"] == "nano":
            kinds = {"easy": 1 - (hard := len(HARD_FAMILIES) / len(first["families"])), "hard": hard}
        for kind, share in kinds.items():
            key, n = "zero_shot" + f"_{kind}" * (kind != "all"), round(config["held_out_samples"] * share)
            rows.append({
                "recipe": recipe, "questions": kind, "before": hits(first[key], n), "after": hits(last[key], n),
                "best": max(scores[key] for _, scores in evaluations(log)), "rollouts": log[-1]["rollouts"],
                "tokens written": log[-1]["completion_tokens"],
                "seconds, evaluations apart": round(log[-1]["seconds"]),
                "answers with an example, at the end": last.get("examples", 0.0),
                "after, without the invitation": hits(last.get("uninvited", last)[key], n),
            })  # fmt: skip
    return pd.DataFrame(rows)


def real_runs_table(runs, studies):
    """GRPO runs of a real model -> DataFrame, a row per run: held-out rows before and after, means over its batches.

    `runs`: the folder that holds the studies; `studies`: their names.
    """
    rows = []
    found = [(study, arm, run) for study in studies for arm, folders in find_runs(Path(runs) / study).items()
             for run in folders if arm != "warm-start"]  # fmt: skip
    for study, arm, run in found:
        log, n = read_log(run), read_json(run / "config.json")["held_out_samples"]
        batches = [row for row in log[1:] if "groups/all_fail" in row]  # a second update logs nothing of the rollouts
        rewards, third = [row.get("task_reward", row["reward"]) for row in batches], -(-len(batches) // 3)
        shares = [scores["zero_shot"] for _, scores in evaluations(log)]
        rows.append({
            "study": study, "run": f"{arm}, {run.name}", "batches": len(batches), "rollouts": log[-1]["rollouts"],
            "hours": log[-1]["seconds"] / 3600, "before": hits(shares[0], n), "after": hits(shares[-1], n),
            "groups all fail": mean(row["groups/all_fail"] for row in batches),
            "reward, first third": mean(rewards[:third]), "reward, last third": mean(rewards[-third:]),
            "cut at the cap": mean(row["completions/clipped_ratio"] for row in batches),
            "answers with an example": mean(row.get("examples/rate", 0) for row in batches),
        })  # fmt: skip
    return pd.DataFrame(rows)


def runs_table(runs):
    """Every complete run of every study -> DataFrame, one row per run, for spreadsheets and R; see assets/README.md.

    Yes and no are the texts "true" and "false". Empty: not measured in that run, or not asked of such a run.

    `runs`: the folder that holds the studies.
    """
    rows = []
    for study in sorted(folder for folder in Path(runs).iterdir() if folder.is_dir()):
        for arm, folders in find_runs(study).items():
            for run in folders:
                config, summary = read_json(run / "config.json"), read_json(run / "summary.json")
                last, scores = evaluations(read_log(run))[-1]
                known = last | scores | summary | {
                    "study": study.name, "arm": arm, "seed": config["seed"], "profile": config["profile"]["name"],
                    "commit": config["versions"]["git_commit"],
                }  # fmt: skip
                if "rollouts" in summary:  # a warm start has none, and counts no tokens
                    known["tokens"] = summary["prompt_tokens"] + summary["completion_tokens"]
                values = (known.get(name) for name in RUN_COLUMNS)
                rows.append([str(value).lower() if isinstance(value, bool) else value for value in values])
    return pd.DataFrame(rows, columns=list(RUN_COLUMNS), dtype=object)
