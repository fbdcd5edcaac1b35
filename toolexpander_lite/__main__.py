"""The command line: `python -m toolexpander_lite COMMAND`. Each command calls the function the notebooks call.

Options stand above the command that takes them. A command checks every name it is given before it imports torch.
"""

import argparse
import contextvars
import json
import os
import re
import sys
import tomllib
from pathlib import Path

from .base.errors import DataError, KitError, RunStopped, SettingsError, meant, unknown
from .base.processes import is_first, leave
from .base.progress import bar, hush
from .base.settings import parse_settings
from .base.spelled_defaults import DEFAULTS_RULE
from .method.prompts import STYLES
from .studies.plan import plan_names
from .training.profiles import PROFILES, Profile, get_profile
from .variants.all_recipes import RECIPES, Recipe, get_recipe

SOURCES = tuple(tomllib.loads((Path(__file__).parent / "data" / "sources.toml").read_text(encoding="utf-8")))
DATA = "nano", "graded", "requests", "chains", *SOURCES  # the kit's worlds first
COMMANDS = {}  # name -> (function, about, options, examples)


def command(about, *options, examples=""):
    """Make a function of parsed arguments a command; `examples`: its arguments, a line per example."""

    def add(function):
        name = function.__name__.strip("_").replace("_", "-")
        COMMANDS[name] = function, about, options, [f"{name} {line}".strip() for line in examples.split("\n")]
        return function

    return add


def option(name, help, kind=str, **settings):
    """An argument in argparse's words, a flag if `kind` is bool; its help says its default."""
    if settings.get("default") not in (None, "", [], [1, 2]):
        help += " (default %(default)s)"
    return name, {"help": help, **({"action": "store_true"} if kind is bool else {"type": kind}), **settings}


def repeated(name, help):
    return option(name, help, action="append", default=[], metavar="NAME=VALUE")


def model(profile):
    """The options of a command that loads a model."""
    return (
        option("--profile", f"one of {', '.join(PROFILES)}", default=profile),
        option("--model", "Hub id or local folder, instead of the profile's"),
        repeated("--profile-set", "any other field of the profile, max_prompt_tokens=1024 for example"),
    )


MODEL_AND_DATA = (
    *model("nano"),
    option("--data", f"instead of the profile's; one of {', '.join(DATA)}"),
    option("--data-path", "local file in the form of --data"),
)
ONE_OF_RECIPES = f"one of {', '.join(RECIPES)}"
SEED = option("--seed", "of the rows drawn, their order and the rollouts", int, default=0)
STEPS = "steps", "eval_every", "eval_split"
SET = repeated("--set", "any other field of the recipe, retest=never for example; may be repeated")
STYLE = option("--style", "what prompts ask for (example: one of its own, as recipes with a bonus do); by default as "
               "in the training of a run's final folder, think for other models", choices=tuple(STYLES))
QUESTIONS = (
    *model("smol"),
    option("--limit", "so many questions of each part, always the same random draw", int),
    option("--max-new-tokens", "cap per answer", int),
    option("--batch-size", "questions answered side by side", int),
    STYLE,
    option("--out", "folder of the answers; a run that was cut goes on there", required=True),
)


def changes(arguments, *names):
    """{name: value} of the options that were given."""
    return {name: getattr(arguments, name) for name in names if getattr(arguments, name, None) is not None}


def settings(arguments, kind, option, *names):
    """The options called `names` and the NAME=VALUE of `option`, fields of `kind`, in one dict."""
    given, named = changes(arguments, *names), parse_settings(kind, getattr(arguments, option))
    if twice := sorted(given.keys() & named.keys()):
        option = option.replace("_", "-")
        raise SettingsError(f"{', '.join(twice)}: given both as an option and with --{option}; give it once")
    return given | named


def chosen_recipe(arguments):
    names = ("learning_rate", "beta", "num_generations")
    return get_recipe(arguments.recipe, **settings(arguments, Recipe, "set", *names))


def chosen_profile(arguments, *names):
    """The profile that model, data and --profile-set ask for; `names`: further options that are fields of it."""
    if "data" in arguments:
        names += ("data", "data_path")
    profile = get_profile(arguments.profile, **settings(arguments, Profile, "profile_set", "model", *names))
    if profile.data not in DATA:
        raise DataError(unknown("data source", profile.data, DATA))
    if "data" in arguments and profile.data == "nano" and profile.data_path:
        raise SettingsError(
            f"the nano data reads no file, so {profile.data_path} would be passed over; say whose form its rows have "
            "with --data, hermes for example"
        )
    if profile.data_path and not Path(profile.data_path).exists():
        raise DataError(f"there is no file {profile.data_path}; see --data-path")
    DEFAULTS_RULE.set(profile.spelled_defaults)  # the command judges by the profile's rule; see `main` for its end
    return profile


def policy_of(profile):
    """(model, tokenizer) to be scored: an adapter is merged into its base."""
    from .models.policy import load_policy

    return load_policy(profile, merge=True)


def row_in_words(row):
    line = f"step {row['step']:4d}"
    for name in ("reward", "entropy", "kl", "groups/all_fail", "groups/all_pass"):
        if name in row:
            line += f"  {name} {row[name]:.3f}"
    for name in ("zero_shot", "zero_shot_easy", "zero_shot_hard", "gold_logprob_hard"):
        if name in row.get("eval", {}):
            line += f"  {name} {row['eval'][name]:.3f}"
    return line


def print_loss(step, loss):
    print(f"step {step}  loss {loss:.4f}", flush=True)


def print_answered(part, done, total, speed):
    print(f"{part}: {done} of {total} answered, {speed:.2f} per second", flush=True)


@command(
    "one GRPO run, into a run directory",
    option("--recipe", ONE_OF_RECIPES, default="grpo"), *MODEL_AND_DATA, SEED,
    option("--steps", "optimizer steps, instead of the profile's", int),
    option("--eval-every", "optimizer steps between evaluations and checkpoints", int),
    option("--eval-split", "test (default), or validation to choose settings on"),
    option("--report-to", "also send metrics to trackio, tensorboard or wandb"),
    option("--learning-rate", "instead of the recipe's or the profile's", float),
    option("--beta", "weight of the KL term", float),
    option("--num-generations", "rollouts per prompt", int),
    SET,
    option("--out", "run directory; default out/RECIPE/seed-SEED"),
    option("--resume", "go on from the last checkpoint in --out", bool),
    examples="--recipe grpo --profile nano --out out/mine\n--recipe hard_sampling --set retest=round_end --seed 1",
)
def _train(arguments):
    recipe, profile = chosen_recipe(arguments), chosen_profile(arguments, "report_to", *STEPS)
    from .training.train import train

    with bar(total=profile.steps * recipe.num_iterations, desc="steps") as steps:

        def show(row):
            steps.write(row_in_words(row), sys.stdout)
            sys.stdout.flush()
            if row["step"] > steps.n + 1:  # a resumed run: what was done before says nothing of the speed
                steps.initial = steps.n = row["step"]
            steps.update(row["step"] - steps.n)

        run = train(recipe, profile, arguments.seed, arguments.out, arguments.resume, progress=show)
    if is_first():
        print(run, (run / "summary.json").read_text(), sep="\n")


@command(
    "look at a run before it is started: prompts, tokens, memory, groups, time",
    option("--recipe", ONE_OF_RECIPES, default="grpo"), *MODEL_AND_DATA, SEED, SET,
    option("--steps", "optimizer steps of the run, instead of the profile's", int),
    option("--trial-steps", "ordinary steps to take", int, default=1),
    option("--out", "run directory to come", default="out"),
    examples="--recipe hard_sampling --profile smol",
)
def _preflight(arguments):
    recipe, profile = chosen_recipe(arguments), chosen_profile(arguments, "steps")
    from .training.preflight import preflight

    def show(check):
        print(check, flush=True)

    report = preflight(profile, recipe, arguments.seed, arguments.out, arguments.trial_steps, show)
    if report.refused:
        raise SettingsError(f"the preflight refuses this run: {', '.join(check.name for check in report.refused)}")


@command(
    "count the training rows that are hard: plainly, and with two kinds of demonstrations",
    option("--recipe", ONE_OF_RECIPES, default="paper_replace"), *MODEL_AND_DATA,
    SEED, SET,
    option("--out", "folder for its results; a scan that was cut goes on there", default="out/scan"),
    examples="--profile nano-graded --set demos=2 --set demos_per_tool=1",
)
def _scan(arguments):
    recipe, profile = chosen_recipe(arguments), chosen_profile(arguments)
    from .training.rounds import hard_counts

    print(json.dumps(hard_counts(recipe, profile, arguments.seed, arguments.out), indent=1))


@command(
    "greedy accuracy of a model on the held-out prompts of a profile",
    *MODEL_AND_DATA,
    option("--eval-prompts", "so many prompts, instead of the profile's", int),
    STYLE,
    examples="--profile nano --model out/mine/final\n--profile smol-world --style native",
)
def _evaluate(arguments):
    profile = chosen_profile(arguments, "eval_prompts")
    from .evaluation.accuracy import evaluate
    from .evaluation.executed import evaluate_dialogues, evaluate_requests
    from .evaluation.tool_caller import evaluate_executed
    from .training.dialogues import dialogues_of
    from .training.splits import load_splits
    from .variants.other_demonstrations import VariantBank

    policy, tokenizer = policy_of(profile)
    data, length = load_splits(profile, 0, tokenizer), profile.max_completion_length
    style = style_of_model(arguments, profile)
    if profile.data == "own":
        scores = evaluate_executed(policy, tokenizer, data.held_out, profile.data_path, length, style)
    elif data.tasks and (talks := dialogues_of(profile, data.tasks)):
        scores = evaluate_dialogues(policy, tokenizer, data, length, talks.episodes)
    elif data.tasks:
        scores = {"questions": len(data.held_out), **evaluate_requests(policy, tokenizer, data, length, style)}
    else:
        bank = VariantBank(data.train) if data.hard_families else None
        scores = evaluate(policy, tokenizer, data.held_out, length, bank, data.hard_families, invite=style)
        scores = {"questions": len(data.held_out), **scores}
    print(json.dumps(scores, indent=1))


@command(
    "one question to a model trained on your own tools, whose calls are executed",
    option("model", "final folder of train or warm-start with --data own"),
    option("question", "in words"),
    examples="out/mine/final 'Which rooms are free on Monday?'",
)
def _ask(arguments):
    from .evaluation.tool_caller import ToolCaller

    answer = ToolCaller.load(arguments.model)(arguments.question)
    for call, result in zip(answer.calls, answer.results):
        print(json.dumps(call, ensure_ascii=False), "->", result.value if result.ok else f"refused: {result.error}")
    print(answer.text)


@command(
    "load a public data set, count what is dropped, look for evaluation rows in it",
    option("source", f"one of {', '.join(SOURCES)}"),
    option("--data-path", "local file of that source"),
    option("--limit", "stop at so many samples", int),
    option("--against", "where to look for equal questions: a source, bfcl:CATEGORY or api-bank:LEVEL",
           nargs="+", default=[], metavar="SOURCE[=FILE]"),
    option("--out", "write the numbers to this file, as JSON"),
    examples="toolrl --limit 500\ntoolrl --against bfcl:simple_python api-bank:1",
)  # fmt: skip
def _data(arguments):
    from .base.runs import write_json
    from .data.contamination import contamination
    from .data.sources import load_samples

    if arguments.source not in SOURCES:
        raise DataError(unknown("data source", arguments.source, SOURCES))
    asked = [(text, *text.partition("=")[::2]) for text in dict.fromkeys(arguments.against)]
    loaded = [questions_of(name, path or None) for _, name, path in asked]  # a wrong name ends it before the long read
    report = load_samples(arguments.source, arguments.data_path, arguments.limit)
    print(report)
    halves = {split: [s for s in report.samples if s.split == split] for split in ("train", "test")}
    compared = {"train split against test split": contamination(halves["train"], halves["test"])}
    print("train split against test split:", *compared.values())
    names = [name for _, name, _ in asked]
    for (text, name, _), (told, samples) in zip(asked, loaded):
        name = text if names.count(name) > 1 else name  # files of one source are told apart by their paths
        found = compared[f"all rows against {name}"] = contamination(report.samples, samples)
        print(told, f"all of {arguments.source} against all of {name}: {found}", sep="\n")
    if arguments.out:
        twins = {pair: {"rows": [found.trained, found.held_out], **found.counts()} for pair, found in compared.items()}
        write_json(arguments.out, {"source": arguments.source, "kept": len(report.samples),
                                   "dropped": dict(report.dropped), "twins": twins})  # fmt: skip


def questions_of(name, path):
    """(report, samples) of a data set by name; "bfcl:simple_python" and "api-bank:1" name a part of a benchmark."""
    benchmark, _, part = name.partition(":")
    if benchmark == "bfcl":
        from .evaluation.bfcl import load_questions

        if path:
            raise SettingsError(f"{name}={path}: the questions of BFCL come with its package; leave out ={path}")
        samples = [question.sample for question in load_questions(part)]
        return f"{name}: {len(samples)} questions", samples
    if benchmark == "api-bank":
        from .evaluation.api_bank import load_api_bank

        if not part.isdigit():
            raise SettingsError(f"{name!r} names no level of API-Bank; write api-bank:1 or api-bank:2")
        report = load_api_bank(int(part), path=path)
    else:
        from .data.sources import load_samples

        report = load_samples(name, path)
    return report, report.samples


def style_of_model(arguments, profile):
    """What `--style` says, else what the model's folder says -> key of `STYLES`."""
    from .evaluation.tool_caller import style_in

    return arguments.style or style_in(profile.model)


def asking(arguments):
    """How a benchmark's questions are asked, as its command says; checked before a model is loaded -> dict."""
    from .evaluation.answers import check_counts

    numbers = changes(arguments, "limit", "max_new_tokens", "batch_size")
    check_counts(**numbers)
    return numbers | {"progress": print_answered}


@command(
    "BFCL v4, single-turn Python categories, scored by its official checker",
    option("--categories", "all by default", nargs="+", metavar="CATEGORY"),
    *QUESTIONS,
    examples="--model out/smol/final --categories simple_python irrelevance --limit 50 --out out/bfcl",
)
def _bfcl(arguments):
    from .evaluation.bfcl import CATEGORIES, bfcl_table, check_categories, evaluate_bfcl

    categories = arguments.categories or list(CATEGORIES)
    check_categories(categories)
    profile, how = chosen_profile(arguments), asking(arguments)
    how["invite"] = style_of_model(arguments, profile)
    scores = evaluate_bfcl(*policy_of(profile), profile.model, arguments.out, categories, **how)
    print(bfcl_table(scores).to_string(index=False))


@command(
    "API-Bank call accuracy, strict, one try",
    option("--levels", "1 and 2 by default", int, nargs="+", default=[1, 2], metavar="LEVEL"),
    option("--publisher", "owners or hammer: whose rows", default="owners"),
    option("--data-path", "local file of one level's rows, in either form"),
    *QUESTIONS,
    examples="--model out/smol/final --levels 1 --out out/api-bank",
)
def _api_bank(arguments):
    from .evaluation.api_bank import api_bank_table, evaluate_api_bank, load_api_bank

    profile, how = chosen_profile(arguments), asking(arguments)
    if arguments.data_path and len(arguments.levels) != 1:
        raise SettingsError("--data-path gives the questions of one level: say which with --levels 1 or --levels 2")
    source = arguments.publisher, arguments.data_path, arguments.limit
    reports = {level: load_api_bank(level, *source) for level in arguments.levels}
    print(*reports.values(), sep="\n")
    how["invite"] = style_of_model(arguments, profile)
    scores = evaluate_api_bank(*policy_of(profile), profile.model, arguments.out, reports, **how)
    print(api_bank_table(scores).to_string(index=False))


@command(
    "let a model solve tasks in a world of tools with state; the state is judged",
    *model("smol"),
    option("--split", "default both: no profile trains on these tasks", choices=("train", "test")),
    option("--limit", "so many of the tasks, drawn at random, the same each time", int),
    option("--max-new-tokens", "cap per answer; in 256 three calls fit", int, default=256),
    option("--http", "run the calls through a service on the loopback address", bool),
    STYLE,
    option("--out", "write the episodes to this file, one JSON object per line", Path),
    examples="--model out/smol/final --limit 20 --out out/episodes.jsonl",
)
def _executed(arguments):
    profile = chosen_profile(arguments)
    from .base.files import check_new_file
    from .worlds.api_tasks import api_tasks

    tasks = api_tasks(split=arguments.split, limit=arguments.limit)
    if arguments.out:
        check_new_file(arguments.out)
    from .evaluation.executed import model_answers, run_episodes, summarize, write_episodes
    from .models.templates import check_invitation

    policy, tokenizer = policy_of(profile)
    check_invitation(tokenizer, style := style_of_model(arguments, profile))
    answer = model_answers(policy, tokenizer, arguments.max_new_tokens)
    episodes = run_episodes(answer, tasks, arguments.http, invite=style)
    print(json.dumps(summarize(episodes), indent=1))
    if arguments.out:
        write_episodes(episodes, arguments.out)


@command(
    "table of the runs below a folder", option("folder", "of a study, or of single runs", Path),
    examples="assets/runs/nano-baseline",
)  # fmt: skip
def _runs(arguments):
    from .base.runs import load_study

    print(load_study(arguments.folder).drop(columns="run").to_string(index=False))


@command(
    "read a GRPO log of any framework, and say what is wrong with the run",
    option("path", "a run directory, or a log: JSON, JSONL, CSV, parquet, console output ...", Path),
    examples="out/mine",
)
def _doctor(arguments):
    from .doctor import report

    print(report(arguments.path))


@command(
    "move the complete runs of studies into compressed tables, which are read alike",
    option("folders", "of studies", Path, nargs="+"),
    option("--compare", "move nothing: compare every value with the plain runs in DIR/STUDY", Path, metavar="DIR"),
    examples="out/again/nano-baseline",
)
def _pack(arguments):
    from .base.run_tables import PACKED, compare, pack_study

    for study in arguments.folders:
        if not Path(study).is_dir():
            raise SettingsError(f"there is no folder {study}")
        if arguments.compare:
            files = [f for name in PACKED for f in sorted((arguments.compare / study.name).glob(f"*/seed-*/{name}"))]
            compare(files, study)
            print(f"{study}: {len(files)} files, every value as in {arguments.compare / study.name}")
        else:
            print(f"{study}: {pack_study(study)} runs packed")


@command("what this machine is and which profile fits it")
def _hardware(arguments):
    from .models.hardware import describe_hardware, pick_profile

    hardware = describe_hardware()
    print(hardware, *pick_profile(hardware), sep="\n")


@command(
    "rebuild the README's table and pictures from the committed logs",
    option("--notebooks", "execute the notebooks too, into out/ (they also train)", bool),
)
def _report(arguments):
    from .studies.notebooks import run_notebooks
    from .studies.report import rebuild

    print(*rebuild(), sep="\n")
    if arguments.notebooks:
        run_notebooks()


@command(
    "make the runs of a study that are not there yet",
    option("name", "one of " + ", ".join(plan_names()) + "; or a plan of your own, FILE.toml"),
    option("--workers", "runs at a time, one thread each", int, default=1),
    option("--only", "variants to run, by name or beginning, with commas", default=""),
    option("--runs", "folder that holds the studies; another makes a second set", default="assets/runs"),
    option("--dry-run", "only print the commands", bool),
    examples="nano-baseline --dry-run\nnano-hard-sampling --only grpo,hint --runs out/again --workers 2",
)
def _study(arguments):
    from .studies.runner import run_study, study_plan

    study, only, runs = arguments.name, arguments.only, arguments.runs
    if not arguments.dry_run:
        return run_study(study, arguments.workers, only, lambda text: print(text, flush=True), runs)
    for row in study_plan(study, only, runs).itertuples():
        print(row.command or f"# {row.variant} seed {row.seed}: waits for the search that its plan names")


@command(
    "execute the notebooks; copies and figures go to --out",
    option("--out", "folder", default="out"),
    option("--quick", "a few training steps only, as CI does", bool),
    option("--only", "beginning of the name of the notebooks to run, 01 for example"),
    option("--live", "make the live runs of notebook 05 too, half an hour or more; else committed ones are read", bool),
    examples="--quick --only 01",
)
def _notebooks(arguments):
    from .studies.notebooks import run_notebooks

    run_notebooks(arguments.out, arguments.quick, arguments.only, live=arguments.live)


RATES = {
    "code_rate": "how often a plain question is answered in codes, per argument",
    "follow_rate": "how often a demonstration's codes are followed, per argument",
    "example_rate": "how often an invited answer begins with an example of its own",
    "early_example_rate": "the same for the first part of the steps",
    "early_share": "how much of the steps that part is; two thirds, if left out",
}


@command(
    "rebuild the nano policy (about 5 minutes on 2 cores), or a harder one",
    option("--graded", "rebuild a policy of the graded world instead",
           choices=("strong", "weak", "habit", "invited", "invited-four")),
    *(option(f"--{name.replace('_', '-')}", help, float) for name, help in RATES.items()),
    option("--out", "model folder to come", required=True),
    examples="--code-rate 0.05 --out out/harder",
)
def _nano_policy(arguments):
    rates = changes(arguments, *RATES)
    if arguments.graded and rates:
        raise SettingsError("the graded policies take no rates; they are the nano world's")
    if arguments.graded:
        from .worlds.graded_policy import build_graded_policy, graded_plan

        build_graded_policy(graded_plan(arguments.graded), arguments.out, print_loss)
    else:
        from .worlds.nano_policy import WarmStart, build_nano_policy

        build_nano_policy(arguments.out, WarmStart(**rates), progress=print_loss)
    print(arguments.out)


@command(
    "short SFT for a model that writes no tool calls, saved as a model folder",
    *MODEL_AND_DATA,
    option("--warm-start-steps", "instead of the profile's", int),
    option("--demonstrations", "show each row once more, with a demonstration", bool),
    SEED,
    option("--out", "run directory to come; the model is in its folder final/", required=True),
    examples="--profile smol --out out/warm",
)
def _warm_start(arguments):
    profile = chosen_profile(arguments, "warm_start_steps")
    from .training.warm_start import build_warm_start

    print(f"{profile.warm_start_steps} steps on {profile.model}; data and model are loaded first", flush=True)
    with bar(total=profile.warm_start_steps, desc="steps") as steps:

        def show(step, loss):
            steps.write(f"step {step}  loss {loss:.4f}", sys.stdout)
            sys.stdout.flush()
            steps.update(step - steps.n)

        out = build_warm_start(profile, arguments.out, arguments.seed, show, arguments.demonstrations)
    print(out)


FIRST_STEPS = """a first run, of a minute on one core, and what it did:
  python -m toolexpander_lite train --recipe paper_grpo --profile nano-graded-weak --steps 20 --out out/first
  python -m toolexpander_lite doctor out/first
COMMAND --help has its options, their defaults and an example."""


class _Parser(argparse.ArgumentParser):
    """An error is one line, as those of the kit are."""

    def error(self, message):
        if typed := re.search(r"(--\S+): invalid (int|float) value: (.*)", message):
            message = f"{typed[1]} takes a {'whole ' * (typed[2] == 'int')}number, not {typed[3]}"
        wrong = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        near = meant(wrong[1], re.findall(r"[\w-]+", wrong[2])) if wrong else ""
        self.exit(2, f"error: {message}; {near}{self.prog} --help lists what there is\n")


def _parser():
    parser = _Parser(
        prog="python -m toolexpander_lite", description="GRPO for tool calls, after the paper ToolExpander.",
        formatter_class=argparse.RawDescriptionHelpFormatter, epilog=FIRST_STEPS,
    )  # fmt: skip
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (function, about, options, examples) in COMMANDS.items():
        sub = commands.add_parser(
            name, help=about, description=about, formatter_class=argparse.RawDescriptionHelpFormatter,
            epilog="\n  ".join(["examples:", *(f"{parser.prog} {line}" for line in examples)]),
        )  # fmt: skip
        sub.set_defaults(function=function)
        for word, settings in options:
            sub.add_argument(word, **settings)
    return parser


def main(argv=None):
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest:
        near = meant(rest[0].partition("=")[0], [word for word, _ in COMMANDS[arguments.command][2]])
        told = f"error: {arguments.command} knows no {' '.join(rest)}; {near}{parser.prog} {arguments.command} --help"
        parser.exit(2, f"{told} lists what there is\n")
    hush()
    try:
        contextvars.copy_context().run(arguments.function, arguments)  # a profile may set the judge's rule
        sys.stdout.flush()
    except RunStopped as stopped:
        print(stopped, file=sys.stderr)
        return 2
    except KitError as error:  # says what is wrong and what to do; anything else keeps its traceback
        problem = str(error)
    except RuntimeError as error:  # torch's is one, and torch need not have been imported
        if type(error).__name__ != "OutOfMemoryError":
            raise
        problem = f"out of GPU memory ({str(error)[:200]}); lower micro_batch or the lengths in the profile"
    except BrokenPipeError:  # `| head` has read enough; nor shall Python write its rest at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    else:
        return 0
    finally:
        leave()
    print(f"error: {problem}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
