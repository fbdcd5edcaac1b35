"""Which runs a study has: its plan, a TOML file of the kit's (`plans/`, whose README lists the keys) or of one's own.

A plan says which settings (arms) are run with which seeds. Learning rates that it leaves to a search are the ones
that `chosen_rates` finds in the runs of that search. `runner` makes the runs.
"""

import re
import tomllib
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from ..base.errors import KitError, SettingsError, unknown
from ..base.runs import REPOSITORY, find_runs, load_study, rollouts_to
from ..base.settings import parse_settings
from ..training.profiles import get_profile
from ..variants.all_recipes import Recipe, get_recipe

PLANS = Path(__file__).parent / "plans"
RUNS = "assets/runs"  # the committed runs, from the repository's root
IDEAS = ("grpo", "hard_sampling_decay", "set", "toolexpander")  # arms of the ablation: neither idea, each, both

# What an arm may say, and what a plan may say for all its arms; the options go to the train command in this order.
OPTIONS = ("learning_rate", "model", "steps", "eval_every", "eval_split")
ARM_KEYS = {*OPTIONS, "recipe", "set", "seeds", "profile", "search", "rate_of", "base"} - {"model"}
PLAN_KEYS = ARM_KEYS | {"title", "about", "words", "tests", "arms", "bases", "base_folder", "rates", "name", "compare"}
TEST_KEYS = {"ours", "theirs", "value", "expects", "claim", "asks"}


@dataclass(frozen=True)
class Arm:
    """One setting of a study.

    Attributes:
        variant: names its folder.
        recipe, profile: what is trained, and whose policy and lengths.
        seeds: how often, one run each.
        set: recipe fields, for `--set`.
        options: of the train command; a learning rate of None waits for its search.
        base: of the command that builds the model in options["--model"], `nano-policy` or what "--command" says ({}
            where there is nothing to build); of `train` the model is the folder final/ in it.
    """

    variant: str
    recipe: str
    seeds: tuple
    set: dict = field(default_factory=dict)
    options: dict = field(default_factory=dict)
    base: dict = field(default_factory=dict)
    profile: str = "nano"

    def command(self, study, seed, runs=RUNS):
        """Arguments of `python -m toolexpander_lite` for one seed -> list of str."""
        words = ["train", "--recipe", self.recipe, "--profile", self.profile]
        for name, value in {**self.options, "--seed": seed}.items():
            words += [name, str(value)]
        for name, value in self.set.items():
            words += ["--set", f"{name}={str(value).lower() if isinstance(value, bool) else value}"]
        return [*words, "--out", f"{runs}/{study}/{self.variant}/seed-{seed}"]


@dataclass(frozen=True)
class Plan:
    """What a plan's file says.

    Attributes:
        name: of the study and its folder: the file's own, without .toml.
        title, about: heading and words of its page in docs/studies; without a title it has none.
        words: {arm: what it is} of those that matter most.
        tests: what its arms are compared for, dicts with `TEST_KEYS`, see `paper.Comparison`.
        arms: tuple of `Arm`.
        rates: learning rates as text, where each arm is run at each of them (a search).
        compare: [(field, title, [(value as text, study, variant), ...]), ...] of arms that differ in one field.
    """

    name: str
    title: str
    about: str
    words: dict
    tests: list
    arms: tuple
    rates: tuple
    compare: list


def plan_names(abandoned=False):
    """Names of the kit's studies -> list of str; with those whose plan is abandoned only if asked for."""
    return sorted(file.stem for file in PLANS.glob("**/*.toml" if abandoned else "*.toml"))


def has_plan(study):
    """Is there a plan of the kit for a study of this name? -> bool"""
    return any((folder / f"{study}.toml").is_file() for folder in (PLANS, PLANS / "abandoned"))


def read_plan(study):
    """A study of the kit by name, or the path of a plan -> `Plan`.

    Raises:
        SettingsError: no such study, or a plan that cannot be run; the message names file, arm and key.
    """
    file = Path(study)
    if file.suffix != ".toml":
        found = [folder / f"{study}.toml" for folder in (PLANS, PLANS / "abandoned")]
        file = next((path for path in found if path.is_file()), None)
        if file is None:
            raise SettingsError(unknown("study", study, plan_names()) + ", or a .toml file")
    if not file.is_file():
        raise SettingsError(f"there is no plan {file}; studies of the kit go by their name, without .toml")
    try:
        return _plan(file.stem, tomllib.loads(file.read_text(encoding="utf-8")), file.parent)
    except (OSError, ValueError, KitError) as error:
        raise SettingsError(f"{file}: {error}") from error
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise SettingsError(
            f"{file}: a key has not the form that it has in the kit's plans ({type(error).__name__}: {error})"
        ) from error


def _plan(name, plan, folder):
    _refuse(set(plan) - PLAN_KEYS, "is no key of a plan", PLAN_KEYS)
    lists = {key for key in ("arms", "bases", "words", "set") if not isinstance(plan.get(key, {}), dict)}
    _refuse(lists, "must be a table: one pair of brackets around its name, or name = { ... }")
    shared = {key: value for key, value in plan.items() if key in ARM_KEYS}
    bases, rates = plan.get("bases", {}), tuple(plan.get("rates", ()))
    pattern = plan.get("name", "{arm}")
    searches, arms = {}, []
    for base in bases if "{base}" in pattern else [None]:
        for arm, own in plan.get("arms", {}).items():
            _refuse(set(own) - ARM_KEYS, f"is no key of an arm ({arm})", ARM_KEYS)
            values = {"recipe": arm, **shared, **({"base": base} if base else {}), **own}
            values["set"] = shared.get("set", {}) | own.get("set", {})
            for rate in rates or [None]:
                if rate:
                    values["learning_rate"] = rate
                variant = pattern.format(arm=arm, base=base, rate=rate)
                arms.append(_arm(variant, arm, values, plan, searches, folder))
    if not arms:
        raise SettingsError("no arm below [arms]; each is a line such as grpo = {}")
    variants = [arm.variant for arm in arms]
    _refuse({v for v in variants if variants.count(v) > 1}, "is the name of two arms; see the key `name`")
    _refuse(set(plan.get("words", {})) - set(variants), "stands in [words] and is no arm", variants)
    compare = [
        (part["field"], part.get("title", part["field"]), [
            (value, *(arm.split("/") if "/" in arm else (name, arm))) for value, arm in part["arms"]
        ])
        for part in plan.get("compare", [])
    ]  # fmt: skip
    tests = plan.get("tests", [])
    for test in tests:
        _refuse(set(test) - TEST_KEYS, "is no key of a test", TEST_KEYS)
    texts = (plan.get(key, "") for key in ("title", "about"))
    return Plan(name, *texts, plan.get("words", {}), tests, tuple(arms), rates, compare)


def _arm(variant, name, values, plan, searches, folder):
    """One arm from its own and the plan's keys. `searches`: {search study: its chosen rates}, filled as needed."""
    if not re.fullmatch(r"[\w.+-]+", variant):
        raise SettingsError(f"{variant!r} cannot be an arm's name: letters, digits and . _ + - only")
    try:
        seeds, recipe = values["seeds"], values["recipe"]
        seeds = tuple(range(seeds) if isinstance(seeds, int) else seeds)
        arm = Arm(variant, recipe, seeds, values["set"], profile=values.get("profile", "nano"))
        settings = [word for before, word in zip(arm.command("", 0), arm.command("", 0)[1:]) if before == "--set"]
        get_recipe(recipe, **parse_settings(Recipe, settings))
        get_profile(arm.profile)
    except KeyError as error:
        raise SettingsError(f"arm {name}: {error} is missing") from error
    except (KitError, TypeError) as error:
        raise SettingsError(f"arm {name}: {error}") from error
    if not seeds or not all(isinstance(seed, int) and seed >= 0 for seed in seeds) or len(set(seeds)) < len(seeds):
        raise SettingsError(f"arm {name}: seeds must be a number, or a list of different ones, not {values['seeds']!r}")
    if "learning_rate" not in values and "search" in values:
        search = values["search"]
        if search not in searches:
            searches[search] = _rates_of(search, folder)
        wanted = [values["rate_of"]] if "rate_of" in values else [name, recipe]
        values = values | {"learning_rate": next((searches[search][n] for n in wanted if n in searches[search]), None)}
    if base := values.get("base"):
        _refuse({base} - set(plan.get("bases", {})), "is no entry of [bases]", plan.get("bases", {}))
        final = "/final" if plan["bases"][base].get("command") == "train" else ""
        values = values | {"model": f"{plan.get('base_folder', 'out/bases')}/{base}{final}"}
    options = {f"--{key.replace('_', '-')}": values[key] for key in OPTIONS if key in values}
    made = {f"--{key.replace('_', '-')}": value for key, value in plan["bases"][base].items()} if base else {}
    return Arm(variant, recipe, seeds, values["set"], options, made, arm.profile)


def _refuse(names, what, choose=()):
    if names:
        known = f"; choose from {', '.join(sorted(choose))}" if choose else ""
        raise SettingsError(f"{min(names)!r} {what}{known}")


def _rates_of(search, folder):
    """The chosen rates of a search study, of the kit or of a plan beside the one that names it."""
    own = folder / f"{search}.toml"
    plan = read_plan(own if own.is_file() else search)
    return chosen_rates(REPOSITORY / RUNS / search, plan)


def search_table(folder, plan=None):
    """Mean final validation accuracy of each recipe and rate -> DataFrame: recipe, rate, seeds, zero_shot, hard, easy.

    `spent`: mean rollouts until 0.9 on the hard families; a run that never gets there counts as a whole. Only what was
    run with every seed of the search counts.

    `plan`: of the search; None reads that of the folder's name.
    """
    return _search_table(folder, max(len(arm.seeds) for arm in (plan or read_plan(Path(folder).name)).arms))


def _search_table(folder, seeds):
    study = load_study(folder)
    for name in {"zero_shot_hard", "zero_shot_easy"} - set(study):  # of a world without hard families
        study[name] = float("nan")
    reached = [rollouts_to(run, 0.9) for run in study.run]
    study["spent"] = [whole if n is None else n for n, whole in zip(reached, study.rollouts)]
    study["recipe"] = study.variant.str.rsplit("-lr", n=1).str[0]
    table = study.groupby(["recipe", "learning_rate"]).agg(
        seeds=("seed", "count"), zero_shot=("zero_shot", "mean"),
        hard=("zero_shot_hard", "mean"), easy=("zero_shot_easy", "mean"), spent=("spent", "mean"),
    ).reset_index()  # fmt: skip
    return table[table.seeds == seeds]


def chosen_rates(folder=REPOSITORY / RUNS / "nano-lr-search", plan=None):
    """{arm of a search: learning rate, as text}: best mean final zero-shot accuracy on validation prompts.

    Of equals (at the ceiling there are some) the one that reaches 0.9 on the hard families sooner, then the lower.
    Only of arms whose search is complete; {} before any search. `plan`: as for `search_table`.
    """
    if not (runs := find_runs(folder)):
        return {}
    plan = plan or read_plan(Path(folder).name)
    found = (len(runs), sum(map(len, runs.values())))
    return dict(_chosen_rates(folder, found, plan.rates, max(len(arm.seeds) for arm in plan.arms)))


@lru_cache  # complete runs stay as they are, and a study of many arms asks for each
def _chosen_rates(folder, found, rates, seeds):
    table = _search_table(folder, seeds)
    table = table.sort_values(["zero_shot", "spent", "learning_rate"], ascending=[False, True, True])
    wanted = set(map(float, rates))
    table = table[table.groupby("recipe")["learning_rate"].transform(lambda tried: wanted <= set(tried))]
    return {name: f"{rate:g}" for name, rate in table.groupby("recipe")["learning_rate"].first().items()}
