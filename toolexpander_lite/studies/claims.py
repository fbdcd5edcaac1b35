"""The paper's claims, each with the comparison that tests it here and the verdict that `ablation.verdict` gives.

The abstract reports two effects: vanilla GRPO fails and collapses on weak models, ToolExpander helps. Of the parts it
only says that they were chosen, so a row that tests one of them says so in its source.
"""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..base.intervals import share_interval
from ..base.runs import find_runs, load_study
from .ablation import FEW, LITTLE, ROLLOUTS, effects_table
from .arms import RIVALS, STUDIES
from .runner import reproduce_command

CHOICE = "the abstract's choice, our test"
AGAIN = "out/again"  # where the commands of a table write a second set of runs
MEASURED_BY = {
    "zero_shot_hard": "accuracy, hard families", "zero_shot": "accuracy, all families",
    ROLLOUTS: "rollouts until 0.9 on the hard families (gain: saved)",
    "collapsed": "share of runs that collapsed", "stalled": "share of runs that stalled",
}  # fmt: skip


@dataclass(frozen=True)
class Claim:
    """One sentence, and the comparison that tests it here.

    Attributes:
        text, source: what is said, and where: "abstract" (an effect it reports), `CHOICE`, "second-hand" (notes on the
            paper), or "our question".
        study, ours, theirs: the two variants compared, by their paired difference.
        value: what is compared, see `ablation.seed_values`.
        expects: "gain"; "little": hardly any difference; "often": `value`, a yes or no, is yes in more than `LITTLE` of
            all runs whose variant is called `ours` or begins with it and "-". Then `theirs` is empty.
    """

    text: str
    source: str
    study: str
    ours: str
    theirs: str
    value: str = "zero_shot_hard"
    expects: str = "gain"


def _hard_sampling(text, source, ours, theirs, *rest):
    return Claim(text, source, "nano-hard-sampling", ours, theirs, *rest)


def _long(rate):
    return Claim(f"ToolExpander collapses less often than vanilla GRPO (600 steps at {rate})", "abstract",
                 "nano-ablation-long", f"toolexpander-lr{rate}-600steps", f"grpo-lr{rate}-600steps",
                 "collapsed")  # fmt: skip


CLAIMS = (
    Claim("Vanilla GRPO often fails to gain on weak models", "abstract", "nano-baseline", "grpo", "", "stalled",
          "often"),
    Claim("Vanilla GRPO frequently collapses on weak models", "abstract", "nano-baseline", "grpo", "", "collapsed",
          "often"),
    Claim("... in 600 steps, on a second base", "abstract", "nano-ablation-long", "grpo", "",
          "collapsed", "often"),
    _hard_sampling("Substituting demonstrations for hard samples, in rounds, with decay, helps", CHOICE,
                   "hard_sampling_decay", "grpo"),
    _hard_sampling("... and so it does without the decay", "our question", "hard_sampling", "grpo"),
    _hard_sampling("The decay adds to hard sampling", CHOICE, "hard_sampling_decay", "hard_sampling"),
    _hard_sampling("Exponential learning rate decay helps by itself", "our question", "lr_decay", "grpo"),
    _hard_sampling("Demonstrations must be right (the abstract: \"high-quality\")", CHOICE,
                   "hard_sampling-kl0", "hard_sampling-kl0-corrupted-demos"),
    _hard_sampling("... or else 0.9 takes more rollouts", "our question",
                   "hard_sampling-kl0", "hard_sampling-kl0-corrupted-demos", ROLLOUTS),
    _hard_sampling("GRPO is better without the KL term", CHOICE, "grpo-kl0", "grpo"),
    Claim("... on a second policy, at a higher rate", "our question", "nano-ablation", "no_kl", "grpo"),
    _hard_sampling("Hard sampling is better without the KL term", CHOICE, "hard_sampling-kl0", "hard_sampling"),
    _hard_sampling("... at one learning rate too", "our question", "hard_sampling-kl0", "hard_sampling-lr1e-3"),
    _hard_sampling("32 rollouts instead of 10, at 3.2 times the cost, hardly help", "second-hand",
                   "rollouts_32_equal_prompts", "grpo", "zero_shot_hard", "little"),
    _hard_sampling("Excluding hard samples backfires", "second-hand", "grpo", "exclude_hard", "zero_shot"),
    _hard_sampling("... on the hard families", "our question", "grpo", "exclude_hard"),
    Claim("Paying 0.01 for an example of one's own helps", CHOICE,
          "nano-examples", "nano-rare-exemplify", "nano-rare-invitation"),
    Claim("... to reach 0.9 with fewer rollouts", CHOICE,
          "nano-examples", "nano-rare-exemplify", "nano-rare-invitation", ROLLOUTS),
    Claim("... also where a policy writes examples often", "our question",
          "nano-examples", "nano-common-exemplify", "nano-common-invitation", ROLLOUTS),
    Claim("... also where an example hardly helps the policy", "our question",
          "nano-examples", "nano-rarest-exemplify", "nano-rarest-invitation"),
    Claim("The bare invitation helps, nothing paid", "our question", "nano-ablation", "invitation", "grpo-lr6e-4"),
    Claim("Where a policy begins examples uninvited, vanilla GRPO needs no invitation", "our question",
          "nano-ablation", "grpo-nano-rare", "grpo"),
    Claim("An adjusted, asymmetric clip range helps", CHOICE, "nano-ablation", "clip_higher", "clip_symmetric"),
    Claim("Self-Exemplifying Thinking helps", CHOICE, "nano-ablation", "set", "grpo"),
    Claim("... and more than without the hundredth", "our question", "nano-ablation", "set", "set-no-bonus"),
    Claim("... and sooner than without it", "our question", "nano-ablation", "set", "set-no-bonus", ROLLOUTS),
    Claim("ToolExpander beats vanilla GRPO", "abstract", "nano-ablation", "toolexpander", "grpo"),
    *(Claim(f"... and the rival `{name}`", "our question", "nano-ablation", "toolexpander", name) for name in RIVALS),
    _long("1e-3"),
    _long("2e-3"),
    Claim("The two ideas add up: more than hard sampling alone", "our question",
          "nano-ablation", "toolexpander", "hard_sampling_decay"),
    Claim("... and more than the second idea alone", "our question", "nano-ablation", "toolexpander", "set"),
    Claim("... and sooner than hard sampling alone", "our question",
          "nano-ablation", "toolexpander", "hard_sampling_decay", ROLLOUTS),
    Claim("... and sooner than the second idea alone", "our question",
          "nano-ablation", "toolexpander", "set", ROLLOUTS),
    Claim("On a harder policy too they add up: more than hard sampling alone", "our question",
          "nano-ablation-hard", "toolexpander", "hard_sampling_decay"),
    Claim("... and more than the second idea alone", "our question", "nano-ablation-hard", "toolexpander", "set"),
    Claim("... and more than the best rival of notebook 02", "our question",
          "nano-ablation-hard", "toolexpander", "hint-kl0"),
    Claim("... and more than hard sampling alone without the KL term", "our question",
          "nano-ablation-hard", "toolexpander", "hard_sampling_decay-kl0"),
    Claim("... and more than without invitation and pay", "our question",
          "nano-ablation-hard", "toolexpander", "toolexpander-no-invitation"),
)  # fmt: skip


def claims_table(runs, claims=CLAIMS, again=AGAIN):
    """Each claim with its comparison and our verdict -> DataFrame, one row per claim.

    Columns: claim, source, measured by, with, against; rates, the learning rates of the two sides, one if they are the
    same; seeds (of "often": runs), ours, theirs, gain, low, high, verdict, see `ablation.effects_table`; command, which
    makes the row's runs once more below the folder `again`, "" if none is known. Of "often": gain is the share of such
    runs and low, high its Wilson interval, which takes runs of one seed at several rates for independent, as they are
    not; "seen" if it lies above `LITTLE`, "leaning" if the share does. A run that a longer one of its seed and rate
    goes on from counts as the longer one.

    `runs`: the folder that holds the studies.
    """
    rows = []
    for claim in claims:
        folder = Path(runs) / claim.study
        found = _often(folder, claim) if claim.expects == "often" else _compared(folder, claim)
        rows.append({
            "claim": claim.text, "source": claim.source, "measured by": MEASURED_BY.get(claim.value, claim.value),
            "with": claim.ours, "against": claim.theirs, "rates": "", "seeds": 0,
            **dict.fromkeys(("ours", "theirs", "gain", "low", "high"), float("nan")), "verdict": "not run yet", **found,
            "command": _command(folder, claim, again),
        })  # fmt: skip
    return pd.DataFrame(rows)


def _compared(folder, claim):
    """What is known of two variants -> the columns of `claims_table` that differ from "not run yet"."""
    if not {claim.ours, claim.theirs} <= set(find_runs(folder)):
        return {}
    table = effects_table(folder, claim.theirs, [claim.ours], claim.value, claim.expects)
    if not len(table):
        return {}
    study, found = load_study(folder), table.iloc[0]
    rates = [study.learning_rate[study.variant == name].iloc[0] for name in (claim.ours, claim.theirs)]
    return {
        "rates": " against ".join(dict.fromkeys(f"{rate:g}" for rate in rates)),
        **{name: found[name] for name in ("seeds", "ours", "theirs", "gain", "low", "high", "verdict")},
    }


def _often(folder, claim):
    """The same for a claim of counts."""
    variants = [name for name in find_runs(folder) if f"{name}-".startswith(f"{claim.ours}-")]
    if not variants:
        return {}
    study = load_study(folder)
    study = study[study.variant.isin(variants)]
    study = study[study.rollouts == study.groupby(["seed", "learning_rate"], dropna=False).rollouts.transform("max")]
    count, share = len(study), study[claim.value].mean()
    low, high = share_interval(int(study[claim.value].sum()), count)
    judged = "seen" if low > LITTLE else "leaning" if share > LITTLE else "not seen"
    if count < FEW:
        judged = "too few seeds"
    return {
        "with": ", ".join(variants), "rates": ", ".join(f"{rate:g}" for rate in sorted(set(study.learning_rate))),
        "seeds": count, "ours": share, "gain": share, "low": low, "high": high, "verdict": judged,
    }  # fmt: skip


def _command(folder, claim, again):
    """The command that makes the runs of both sides again; of a study without a list of arms, its first run's."""
    if claim.study in STUDIES:
        names = ",".join(filter(None, (claim.ours, claim.theirs)))
        return f"python -m toolexpander_lite study {claim.study} --only {names} --runs {again}"
    variants = find_runs(folder)
    first = next((name for name in variants if f"{name}-".startswith(f"{claim.ours}-")), None)
    return reproduce_command(folder, first, again) if first else ""
