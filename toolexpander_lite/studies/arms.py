"""Which settings make up a committed study.

A study is a list of `Arm`s; an arm is one setting, run with several seeds. Learning rates are not set by hand: each arm
takes the one that a search on other seeds and other prompts chose for it. `studies` makes the runs.
"""

from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path

from ..base.runs import REPOSITORY, find_runs, load_study, rollouts_to
from ..method.recipes import get_recipe

SEARCH_SEEDS = (100, 101)  # no other study uses them
SEARCH_RATES = ("6e-4", "1e-3", "2e-3")
RIVALS = ("exclude_hard", "rollouts_32", "difficulty_filter", "greso", "icl_seeding", "hint")
# Name in the search -> (recipe, fields set): every recipe, and the KL weights, which change what a rate does.
SEARCHED = {
    **{name: (name, {}) for name in ("grpo", "hard_sampling", "hard_sampling_decay", "lr_decay", *RIVALS)},
    "hard_sampling-kl0": ("hard_sampling", {"beta": 0.0}),
    "hard_sampling-kl0.01": ("hard_sampling", {"beta": 0.01}),
    "grpo-kl0": ("grpo", {"beta": 0.0}),
    "hint-kl0": ("hint", {"beta": 0.0}),
}  # fmt: skip
# Arms without a search of their own take the rate of the arm they are a variant of.
RATE_OF = {
    "rollouts_32_equal_prompts": "rollouts_32", "rollouts_32-kl0": "rollouts_32", "icl_seeding-kl0": "icl_seeding",
    "replace-kl0": "hard_sampling-kl0",
}  # fmt: skip


@dataclass(frozen=True)
class Arm:
    """One setting of a study.

    Attributes:
        variant: names its folder.
        recipe, seeds: what is trained, and how often.
        set: recipe fields, for `--set`.
        options: of the train command.
        base: of the `nano-policy` command that builds the folder in options["--model"]; {} for the committed policy.
        profile: whose policy and lengths.
    """

    variant: str
    recipe: str
    seeds: tuple
    set: dict = field(default_factory=dict)
    options: dict = field(default_factory=dict)
    base: dict = field(default_factory=dict)
    profile: str = "nano"

    def command(self, study, seed):
        """Arguments of `python -m toolexpander_lite` for one seed -> list of str."""
        words = ["train", "--recipe", self.recipe, "--profile", self.profile]
        for name, value in {**self.options, "--seed": seed}.items():
            words += [name, str(value)]
        for name, value in self.set.items():
            words += ["--set", f"{name}={value}"]
        return [*words, "--out", f"assets/runs/{study}/{self.variant}/seed-{seed}"]


def search_arms(searched=SEARCHED, profile="nano", rates=SEARCH_RATES):
    """A learning rate search: each of `searched` at every rate, judged on validation prompts."""
    return [
        Arm(f"{name}-lr{rate}", recipe, SEARCH_SEEDS, changes,
            {"--learning-rate": rate, "--eval-split": "validation"}, profile=profile)
        for name, (recipe, changes) in searched.items() for rate in rates
    ]  # fmt: skip


def search_table(folder):
    """Mean final validation accuracy of each recipe and rate -> DataFrame: recipe, rate, seeds, zero_shot, hard, easy.

    `spent`: mean rollouts until 0.9 on the hard families; a run that never gets there counts as a whole. Only what was
    run with every search seed counts.
    """
    study = load_study(folder)
    reached = [rollouts_to(run, 0.9) for run in study.run]
    study["spent"] = [whole if n is None else n for n, whole in zip(reached, study.rollouts)]
    study["recipe"] = study.variant.str.rsplit("-lr", n=1).str[0]
    table = study.groupby(["recipe", "learning_rate"]).agg(
        seeds=("seed", "count"), zero_shot=("zero_shot", "mean"),
        hard=("zero_shot_hard", "mean"), easy=("zero_shot_easy", "mean"), spent=("spent", "mean"),
    ).reset_index()  # fmt: skip
    return table[table.seeds == len(SEARCH_SEEDS)]


def chosen_rates(folder=REPOSITORY / "assets" / "runs" / "nano-lr-search"):
    """{recipe: learning rate, as text}: best mean final zero-shot accuracy on validation prompts.

    Of equals (at the ceiling there are some) the one that reaches 0.9 on the hard families sooner, then the lower.
    Only of recipes whose search is complete; {} before any search.
    """
    if not find_runs(folder):
        return {}
    table = search_table(folder).sort_values(["zero_shot", "spent", "learning_rate"], ascending=[False, True, True])
    wanted = set(map(float, ABLATION_RATES if Path(folder).name == "nano-ablation-search" else SEARCH_RATES))
    table = table[table.groupby("recipe")["learning_rate"].transform(lambda tried: wanted <= set(tried))]
    best = {name: f"{rate:g}" for name, rate in table.groupby("recipe")["learning_rate"].first().items()}
    return best | {name: best[parent] for name, parent in RATE_OF.items() if parent in best}


def hard_sampling_arms():
    """Hard sampling, its parts, its rivals and its switches, at the rates that the search chose (None: not yet)."""
    rates = chosen_rates()

    def arm(variant, recipe, seeds, rate_of=None, **changes):
        rate = rates.get(rate_of or (variant if variant in (*SEARCHED, *RATE_OF) else recipe))
        return Arm(variant, recipe, tuple(range(seeds)), changes, {"--learning-rate": rate})

    arms = [arm(name, name, 10) for name in ("grpo", "hard_sampling", "hard_sampling_decay", "lr_decay")]
    arms += [arm(name, name, 5) for name in (*RIVALS, "rollouts_32_equal_prompts")]
    arms += [arm(f"{name}-kl0", name, 5, beta=0.0) for name in ("grpo", "hard_sampling", "hint")]
    # Two rivals without the KL term too, so that they are not compared across it.
    arms += [arm(f"{name}-kl0", name, 3, beta=0.0) for name in ("rollouts_32", "icl_seeding")]
    arms.append(arm("hard_sampling-kl0.01", "hard_sampling", 5, beta=0.01))
    # The KL term at the rate of the arms without it.
    arms.append(arm("hard_sampling-lr1e-3", "hard_sampling", 3, "hard_sampling-kl0"))
    # One switch at a time, on hard sampling without the KL term: there it works, so a switch that matters shows.
    works = "hard_sampling-kl0"
    switches = {
        "no-retest": (5, {"retest": "never"}), "retest-round-end": (5, {"retest": "round_end"}),
        "fixed-demos": (5, {"fresh_demos": "false"}), "own-demos": (3, {"demo_source": "own"}),
        "random-demos": (3, {"demo_source": "random"}), "corrupted-demos": (3, {"demo_source": "corrupted"}),
        "2-demos": (3, {"demos": 2}), "3-demos": (3, {"demos": 3}), "gamma0.95": (3, {"lr_decay": 0.95}),
        "gamma0.9": (3, {"lr_decay": 0.9}), "gamma0.8": (3, {"lr_decay": 0.8}),
        "gamma0.9-round10": (3, {"lr_decay": 0.9, "round_steps": 10}),
        "gamma0.9-round40": (3, {"lr_decay": 0.9, "round_steps": 40}),
    }  # fmt: skip
    for name, (seeds, changes) in switches.items():
        arms.append(arm(f"{works}-{name}", "hard_sampling", seeds, works, beta=0.0, **changes))
    # To be faster than `hint`, within the method: two updates per batch; a high rate to start with, that decays.
    arms.append(arm(f"{works}-2-updates", "hard_sampling", 3, works, beta=0.0, num_iterations=2))
    arms.append(Arm(f"{works}-gamma0.9-lr2e-3", "hard_sampling", (0, 1, 2), {"beta": 0.0, "lr_decay": 0.9},
                    {"--learning-rate": "2e-3"}))  # fmt: skip
    return [*arms, arm("replace-kl0", "replace", 3, beta=0.0)]


# Of the map's warm starts: share of codes in plain rows, and of rows that follow their demonstrations' style. Four more
# at the edge: no codes at all without a demonstration, and demonstrations that are hardly followed.
MAP_RATES = (*product((0.2, 0.07, 0.02, 0.005), (0.45, 0.7, 0.97)), (0, 0.45), (0, 0.97), (0.005, 0.2), (0.005, 0.05))


def map_arms():
    """Vanilla GRPO and hard sampling on warm starts from easy to hopeless, at the rates of the search.

    Both without the KL term, our choice (the paper drops it in its second idea): with it, some seeds of hard
    sampling fail even where it works. Few evaluations: only how a run begins and ends is looked at.
    """
    rates, arms = chosen_rates(), []
    for code, follow in MAP_RATES:
        name = f"code{code}-follow{follow}"
        for recipe in ("grpo", "hard_sampling"):
            options = {
                "--learning-rate": rates.get(f"{recipe}-kl0"), "--model": f"out/map/{name}", "--eval-every": 40,
            }  # fmt: skip
            base = {"--code-rate": code, "--follow-rate": follow}
            arms.append(Arm(f"{recipe}-{name}", recipe, (0, 1, 2), {"beta": 0.0}, options, base))
    return arms


# The ablation's own search, on its own base, `nano-invited`. (The first try was on `nano-rare`, `first_search_arms`; no
# arm did better at 2e-3 than at 6e-4 there, so the grid moved down.) The ablation's other arms take the rate of the arm
# that they add to or take from.
ABLATION_RATES = ("3e-4", "6e-4", "1e-3")
ABLATION_MAIN = ("grpo", "hard_sampling_decay", "set", "toolexpander")  # neither idea, each, both
ABLATION_SEARCHED = {name: (name, {}) for name in ("grpo", "hard_sampling_decay", "exemplify", "set", "toolexpander")}
# What `toolexpander` is without one of its parts.
LEFT_OUT = {
    "no-hard-sampling": {"hard_samples": "keep"}, "no-decay": {"lr_decay": 1.0}, "with-kl": {"beta": 0.04},
    "symmetric-clip": {"epsilon_high": 0.2}, "one-update": {"num_iterations": 1},
    "no-bonus": {"example_bonus": 0.0}, "no-invitation": {"invite": "false", "example_bonus": 0.0},
}  # fmt: skip


def first_search_arms():
    """A search on `nano-rare`, left off when vanilla GRPO had solved it in two seeds, by examples that nobody invited.

    Its runs were made under the name of `nano-ablation-search`, and their config.json say so.
    """
    return [
        replace(arm, seeds=SEARCH_SEEDS if arm.recipe == "grpo" else SEARCH_SEEDS[:1])
        for arm in search_arms(ABLATION_SEARCHED, "nano-rare")
    ]


def ablation_search_arms():
    """The ablation's search, and that of notebook 02's rivals on the same policy."""
    searched = ABLATION_SEARCHED | {name: (name, {}) for name in RIVALS}
    return search_arms(searched, "nano-invited", ABLATION_RATES)


EXEMPLIFYING = ("invitation", "exemplify", "exemplify_gated", "exemplify_unscaled", "exemplify_strict")


def ablation_arms(profile="nano-invited", search="nano-ablation-search", seeds=(10, 5)):
    """Each part added to `grpo`, and each taken from `toolexpander`, on a policy that rarely writes examples.

    `grpo-nano-rare`: the baseline on a policy that begins examples as rarely, but uninvited too. The rivals of notebook
    02, and `invitation-unscaled` (the control of `exemplify_unscaled`), were added when the rest had been seen.
    """
    rates = chosen_rates(REPOSITORY / "assets" / "runs" / search)

    def arm(variant, recipe, count, rate_of, changes=None):
        return Arm(
            variant, recipe, tuple(range(count)), changes or {}, {"--learning-rate": rates.get(rate_of)},
            profile=profile,
        )  # fmt: skip

    most, few = seeds
    arms = [arm(name, name, most, name) for name in ABLATION_MAIN]
    added = ("hard_sampling", "lr_decay", "no_kl", "clip_higher", "clip_symmetric")
    arms += [arm(name, name, few, "hard_sampling_decay" if name == "hard_sampling" else "grpo") for name in added]
    arms += [arm(name, name, few, "exemplify") for name in EXEMPLIFYING]
    # Half the rate did as well on the search's two seeds.
    arms.append(Arm("hard_sampling_decay-lr3e-4", "hard_sampling_decay", tuple(range(few)), {},
                    {"--learning-rate": "3e-4"}, profile=profile))  # fmt: skip
    # The search gave `grpo` 1e-3 for one lucky seed of two; this is the control of the parts that run at 6e-4.
    arms.append(Arm("grpo-lr6e-4", "grpo", tuple(range(few)), {}, {"--learning-rate": "6e-4"}, profile=profile))
    arms.append(replace(arm("grpo-nano-rare", "grpo", few, "grpo"), profile="nano-rare"))
    arms += [arm(name, name, few, name) for name in RIVALS]
    arms.append(arm("invitation-unscaled", "invitation", few, "exemplify", {"scale_rewards": "none"}))
    arms.append(arm("set-no-bonus", "set", few, "set", {"example_bonus": 0.0}))
    arms += [arm(f"toolexpander-{n}", "toolexpander", few, "toolexpander", c) for n, c in LEFT_OUT.items()]
    return arms


# Candidates for a base on which neither idea alone is enough. All never saw a code without a demonstration (the map's
# row on which hard sampling falls short) and differ in how often they begin an example of their own.
HARD_BASES = {
    "code0-follow0.97-invited": {"--example-rate": 0.005, "--early-example-rate": 0.3},
    "early0.02": {"--example-rate": 0.00003, "--early-example-rate": 0.02},
    "early0.05": {"--example-rate": 0.00003, "--early-example-rate": 0.05, "--early-share": 0.4},
}


def hard_arm(recipe, base, seeds, options=None, variant=None, changes=None):
    """An arm on one of `HARD_BASES`, at the rate of the ablation's search; no rate was searched on these."""
    rate = chosen_rates(REPOSITORY / "assets" / "runs" / "nano-ablation-search").get(recipe)
    options = {"--learning-rate": rate, "--model": f"out/hard/{base}", **(options or {})}
    made = {"--code-rate": 0, "--follow-rate": 0.97, **HARD_BASES[base]}
    return Arm(variant or recipe, recipe, tuple(seeds), changes or {}, options, made, "nano-invited")


def hard_first_arms():
    """The first candidate, tried as the whole study and left off: examples alone solved it in the first seed.

    Its runs were made under the name of `nano-ablation-hard`, and their config.json say so.
    """
    return [hard_arm(name, "code0-follow0.97-invited", (0, 1)) for name in ABLATION_MAIN]


def hard_search_arms():
    """Which candidate? The first on which neither idea alone ends at 0.9 or more in the mean; both together are not
    looked at. Other seeds and validation prompts, as in the searches of rates."""
    tried = (("set", "early0.02"), ("set", "early0.05"), ("hard_sampling_decay", "early0.05"))
    return [
        hard_arm(recipe, base, SEARCH_SEEDS, {"--eval-split": "validation"}, f"{recipe}-{base}")
        for recipe, base in tried
    ]


def ablation_hard_arms():
    """Neither idea, each, both, on the base that the runs of `hard_search_arms` point to.

    And, since `toolexpander` turned out to solve it without writing examples, what is left of it without the
    invitation, hard sampling with nothing of the second idea but the missing KL term, and the best of notebook 02's
    rivals, without that term too, at the rate of its search there.
    """
    arms = [hard_arm(name, "early0.05", range(10)) for name in ABLATION_MAIN]
    name = "hard_sampling_decay"
    arms.append(hard_arm(name, "early0.05", range(10), variant=f"{name}-kl0", changes={"beta": 0.0}))
    rival = {"--learning-rate": chosen_rates().get("hint-kl0")}
    arms.append(hard_arm("hint", "early0.05", range(5), rival, "hint-kl0", {"beta": 0.0}))
    name, part = "toolexpander", "no-invitation"
    return [*arms, hard_arm(name, "early0.05", range(10), variant=f"{name}-{part}", changes=LEFT_OUT[part])]


def examples_arms():
    """What a self-written example earns, on policies that write one in 4 %, 0.4 % and almost none of rollouts.

    At one rate for all and without the KL term, so that policies and rules differ in nothing else. On the middle one
    all rules, the invitation and the paid example with the KL term too.
    """

    def arm(profile, recipe, seeds, beta=0.0):
        name = f"{profile}-{recipe}{'-kl' if beta else ''}"
        return Arm(name, recipe, tuple(range(seeds)), {"beta": beta}, {"--learning-rate": "6e-4"}, profile=profile)

    unpaid_and_paid = ("invitation", "exemplify")
    arms = [arm("nano-rare", recipe, 5) for recipe in EXEMPLIFYING]
    arms += [arm("nano-rare", recipe, 3, beta=0.04) for recipe in unpaid_and_paid]
    arms += [arm("nano-common", recipe, 3) for recipe in unpaid_and_paid]
    return arms + [arm("nano-rarest", recipe, 3) for recipe in EXEMPLIFYING if recipe != "exemplify_strict"]


def long_arms():
    """600 batches at two rates: has a collapse its chance?"""
    recipes = ("grpo", "no_kl", "clip_higher", "clip_symmetric", "set", "toolexpander")
    return [
        Arm(f"{recipe}-lr{rate}-600steps", recipe, (0, 1, 2), {},
            {"--learning-rate": rate, "--steps": 600, "--eval-every": 30}, profile="nano-invited")
        for recipe in recipes for rate in ("1e-3", "2e-3")
    ]  # fmt: skip


def silent_long_arms():
    """The paid arms of `long_arms` once more, since equal rewards are silent (`rewards.quantise`).

    In the runs of `nano-ablation-long` they were not: does a collapse go away? Seed 0 is left out: none of its four
    runs ever had a group that was paid as a whole (assets/benchmarks/equal_rewards.json), so it would be the same.
    """
    arms = [arm for recipe in ("toolexpander", "set") for arm in long_arms() if arm.recipe == recipe]
    return [replace(arm, seeds=(1, 2)) for arm in arms]


# Fields of `set` and the values to try.
SET_VALUES = {
    "learning_rate": ("3e-4", "6e-4", "1e-3", "2e-3"), "example_bonus": (0.0, 0.001, 0.01, 0.1),
    "epsilon_high": (0.2, 0.28, 0.4), "beta": (0.0, 0.01, 0.04, 0.1), "num_generations": (4, 10, 32),
    "temperature": (0.7, 1.0, 1.3),
}  # fmt: skip


def sensitivity_rows():
    """Where the runs of each of `SET_VALUES` are -> list of (field, value as text, study, variant), in order.

    `set` as it is, and without a bonus, are rows of `nano-ablation`: the same runs are not made twice.
    """
    rate, rows = _set_rate(), []
    own = {**asdict(get_recipe("set")), "learning_rate": rate}
    for name, values in SET_VALUES.items():
        for value in values:
            as_it_is = own[name] is not None and float(value) == float(own[name])
            made = "set" if as_it_is else "set-no-bonus" if (name, value) == ("example_bonus", 0.0) else None
            where = ("nano-ablation", made) if made else ("nano-sensitivity", f"set-{name}-{value}")
            rows.append((name, str(value), *where))
    return rows


def _set_rate():
    return chosen_rates(REPOSITORY / "assets" / "runs" / "nano-ablation-search").get("set")


def sensitivity_arms():
    """One value of `set` changed at a time, 3 seeds each; the rest as in the ablation."""
    rate, arms = _set_rate(), []
    for name, value, study, variant in sensitivity_rows():
        if study == "nano-sensitivity":
            changes = {} if name == "learning_rate" else {name: value}
            if name == "num_generations":
                changes["equal_rollouts"] = "true"
            options = {"--learning-rate": value if name == "learning_rate" else rate}
            arms.append(Arm(variant, "set", (0, 1, 2), changes, options, profile="nano-invited"))
    return arms


STUDIES = {
    "nano-lr-search": search_arms,
    "nano-hard-sampling": hard_sampling_arms,
    "nano-map": map_arms,
    "nano-rare-search": first_search_arms,
    "nano-ablation-search": ablation_search_arms,
    "nano-examples": examples_arms,
    "nano-ablation": ablation_arms,
    "nano-hard-first": hard_first_arms,
    "nano-hard-search": hard_search_arms,
    "nano-ablation-hard": ablation_hard_arms,
    "nano-ablation-long": long_arms,
    "nano-ablation-long-silent": silent_long_arms,
    "nano-sensitivity": sensitivity_arms,
}
