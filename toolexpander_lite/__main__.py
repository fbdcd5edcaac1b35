"""The command line: `python -m toolexpander_lite COMMAND`. Each command calls the function the notebooks call."""

import argparse
import contextvars
import json
import sys
from pathlib import Path

import torch

from .base.errors import KitError, SettingsError
from .base.settings import parse_settings
from .base.spelled_defaults import DEFAULTS_RULE
from .method.recipes import RECIPES, Recipe, get_recipe
from .studies.plan import plan_names
from .training.profiles import PROFILES, Profile, get_profile


def _print_row(row):
    line = f"step {row['step']:4d}"
    for name in ("reward", "entropy", "kl", "groups/all_fail", "groups/all_pass"):
        if name in row:
            line += f"  {name} {row[name]:.3f}"
    for name in ("zero_shot", "zero_shot_easy", "zero_shot_hard", "gold_logprob_hard"):
        if name in row.get("eval", {}):
            line += f"  {name} {row['eval'][name]:.3f}"
    print(line, flush=True)


def _print_loss(step, loss):
    print(f"step {step}  loss {loss:.4f}", flush=True)


def _changes(arguments, names):
    return {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}


def _settings(arguments, names, kind, option):
    """The options called `names` and the NAME=VALUE of `option`, fields of `kind`, in one dict."""
    changes = _changes(arguments, names)
    settings = parse_settings(kind, getattr(arguments, option))
    if twice := sorted(changes.keys() & settings.keys()):
        option = option.replace("_", "-")
        raise SettingsError(f"{', '.join(twice)}: given both as an option and with --{option}; give it once")
    return changes | settings


def _profile(arguments, *names):
    """The profile that model, data and --profile-set ask for; `names`: further options that are fields of it."""
    names = ("model", "data", "data_path", *names)
    profile = get_profile(arguments.profile, **_settings(arguments, names, Profile, "profile_set"))
    if profile.data == "nano" and profile.data_path:
        raise SettingsError(
            f"the nano data reads no file, so {profile.data_path} would be passed over; say whose form its rows have "
            "with --data, hermes for example"
        )
    return _judging(profile)


def _scored_profile(arguments):
    """The same of a benchmark's command, whose --data-path, where it has one, is that of its questions."""
    return _judging(get_profile(arguments.profile, **_settings(arguments, ("model",), Profile, "profile_set")))


def _judging(profile):
    """From here on the command judges by the profile's rule; see `main` for its end."""
    DEFAULTS_RULE.set(profile.spelled_defaults)
    return profile


def _train(arguments):
    from .training.train import train

    names = ("learning_rate", "beta", "num_generations")
    recipe = get_recipe(arguments.recipe, **_settings(arguments, names, Recipe, "set"))
    profile = _profile(arguments, "steps", "eval_every", "eval_split")
    run = train(recipe, profile, arguments.seed, arguments.out, arguments.resume, progress=_print_row)
    print(run, (run / "summary.json").read_text(), sep="\n")


def _preflight(arguments):
    from .training.preflight import preflight

    profile = _profile(arguments, "steps")
    report = preflight(profile, arguments.recipe, arguments.seed, arguments.out, arguments.trial_steps)
    print(report)
    if report.refused:
        raise SettingsError(f"the preflight refuses this run: {', '.join(check.name for check in report.refused)}")


def _scan(arguments):
    from .training.rounds import hard_counts

    recipe = get_recipe(arguments.recipe, **_settings(arguments, (), Recipe, "set"))
    print(json.dumps(hard_counts(recipe, _profile(arguments), arguments.seed, arguments.out), indent=1))


def _evaluate(arguments):
    from .evaluation.accuracy import evaluate
    from .method.demonstrations import DemoBank
    from .models.policy import load_policy
    from .training.splits import load_splits

    profile = _profile(arguments, "eval_prompts")
    model, tokenizer = load_policy(profile, merge=True)
    data = load_splits(profile, 0, tokenizer)
    if profile.data == "own":
        from .evaluation.tool_caller import evaluate_executed

        asked = data.held_out, profile.data_path, profile.max_completion_length, arguments.invite
        print(json.dumps(evaluate_executed(model, tokenizer, *asked), indent=1))
        return
    bank = DemoBank(data.train) if data.hard_families else None
    length = profile.max_completion_length
    scores = evaluate(model, tokenizer, data.held_out, length, bank, data.hard_families, invite=arguments.invite)
    print(json.dumps({"questions": len(data.held_out), **scores}, indent=1))


def _ask(arguments):
    from .evaluation.tool_caller import ToolCaller

    answer = ToolCaller.load(arguments.model)(arguments.question)
    for call, result in zip(answer.calls, answer.results):
        print(json.dumps(call, ensure_ascii=False), "->", result.value if result.ok else f"refused: {result.error}")
    print(answer.text)


def _print_answered(part, done, total, speed):
    print(f"{part}: {done} of {total} answered, {speed:.2f} per second", flush=True)


def _asking(arguments):
    """How a benchmark's questions are asked, as its command says; checked before a model is loaded -> dict."""
    from .evaluation.answers import check_counts

    numbers = _changes(arguments, ("limit", "max_new_tokens", "batch_size"))
    check_counts(**numbers)
    return numbers | {"invite": arguments.invite}


def _bfcl(arguments):
    from .evaluation.bfcl import CATEGORIES, bfcl_table, check_categories, evaluate_bfcl
    from .models.policy import load_policy

    categories = arguments.categories or list(CATEGORIES)
    check_categories(categories)
    profile, settings = _scored_profile(arguments), _asking(arguments)
    policy = load_policy(profile, merge=True)
    scores = evaluate_bfcl(*policy, profile.model, arguments.out, categories, progress=_print_answered, **settings)
    print(bfcl_table(scores).to_string(index=False))


def _api_bank(arguments):
    from .evaluation.api_bank import api_bank_table, evaluate_api_bank, load_api_bank
    from .models.policy import load_policy

    profile, settings = _scored_profile(arguments), _asking(arguments)
    if arguments.data_path and len(arguments.levels) != 1:
        raise SettingsError("--data-path gives the questions of one level: say which with --levels 1 or --levels 2")
    source = arguments.publisher, arguments.data_path, arguments.limit
    reports = {level: load_api_bank(level, *source) for level in arguments.levels}
    print(*reports.values(), sep="\n")
    policy = load_policy(profile, merge=True)
    scores = evaluate_api_bank(*policy, profile.model, arguments.out, reports, progress=_print_answered, **settings)
    print(api_bank_table(scores).to_string(index=False))


def _executed(arguments):
    from .base.files import check_new_file
    from .evaluation.executed import model_answers, run_episodes, summarize, write_episodes
    from .method.prompts import check_invitation
    from .models.policy import load_policy
    from .worlds.api_tasks import api_tasks

    profile = _scored_profile(arguments)
    tasks = api_tasks(split=arguments.split, limit=arguments.limit)
    if arguments.out:
        check_new_file(arguments.out)
    model, tokenizer = load_policy(profile, merge=True)
    if arguments.invite:
        check_invitation(tokenizer)
    episodes = run_episodes(
        model_answers(model, tokenizer, arguments.max_new_tokens), tasks, arguments.http, invite=arguments.invite
    )
    print(json.dumps(summarize(episodes), indent=1))
    if arguments.out:
        write_episodes(episodes, arguments.out)


def _runs(arguments):
    from .base.runs import load_study

    table = load_study(arguments.folder)
    print(table.drop(columns="run").to_string(index=False))


def _doctor(arguments):
    from .doctor import report

    print(report(arguments.path))


def _pack(arguments):
    from .base.packs import PACKED, compare, pack_study

    for study in arguments.folders:
        if arguments.compare:
            files = [f for name in PACKED for f in sorted((arguments.compare / study.name).glob(f"*/seed-*/{name}"))]
            compare(files, study)
            print(f"{study}: {len(files)} files, every value as in {arguments.compare / study.name}")
        else:
            print(f"{study}: {pack_study(study)} runs packed")


def _hardware(arguments):
    from .models.hardware import describe_hardware, pick_profile

    hardware = describe_hardware()
    print(hardware, *pick_profile(hardware), sep="\n")


def _notebooks(arguments):
    from .studies.notebooks import run_notebooks

    run_notebooks(arguments.out, arguments.quick, arguments.only)


def _report(arguments):
    from .studies.notebooks import run_notebooks
    from .studies.report import rebuild

    for path in rebuild():
        print(path)
    if arguments.notebooks:
        run_notebooks()


def _study(arguments):
    from .studies.runner import run_study, study_plan

    if arguments.dry_run:
        for row in study_plan(arguments.name, arguments.only, arguments.runs).itertuples():
            print(row.command or f"# {row.variant} seed {row.seed}: waits for the search that its plan names")
    else:
        run_study(
            arguments.name, arguments.workers, arguments.only, lambda text: print(text, flush=True), arguments.runs
        )


def _nano_policy(arguments):
    from .worlds.nano_policy import WarmStart, build_nano_policy

    names = ("code_rate", "follow_rate", "example_rate", "early_example_rate", "early_share")
    if arguments.graded:
        from .worlds.graded_policy import LEVELS, GradedWarmStart, build_graded_policy
        from .worlds.graded_world import Familiarity

        if _changes(arguments, names):
            raise SettingsError("the graded policies take no rates; they are the nano world's")
        plan = GradedWarmStart(Familiarity(LEVELS[arguments.graded]))
        build_graded_policy(plan, arguments.out, _print_loss)
        print(arguments.out)
        return
    plan = WarmStart(**_changes(arguments, names))
    build_nano_policy(arguments.out, plan, progress=_print_loss)
    print(arguments.out)


def _warm_start(arguments):
    from .training.warm_start import build_warm_start

    profile = _profile(arguments, "warm_start_steps")
    print(build_warm_start(profile, arguments.out, arguments.seed, _print_loss, arguments.demonstrations))


def _data(arguments):
    from .base.runs import write_json
    from .data.contamination import contamination
    from .data.sources import load_samples

    report = load_samples(arguments.source, arguments.data_path, arguments.limit)
    print(report)
    halves = {split: [s for s in report.samples if s.split == split] for split in ("train", "test")}
    compared = {"train split against test split": contamination(halves["train"], halves["test"])}
    print("train split against test split:", *compared.values())
    asked = [(text, *text.partition("=")[::2]) for text in dict.fromkeys(arguments.against)]
    names = [name for _, name, _ in asked]
    for text, name, path in asked:
        told, samples = _questions(name, path or None)
        name = text if names.count(name) > 1 else name  # files of one source are told apart by their paths
        found = compared[f"all rows against {name}"] = contamination(report.samples, samples)
        print(told, f"all of {arguments.source} against all of {name}: {found}", sep="\n")
    if arguments.out:
        twins = {pair: {"rows": [found.trained, found.held_out], **found.counts()} for pair, found in compared.items()}
        write_json(arguments.out, {"source": arguments.source, "kept": len(report.samples),
                                   "dropped": dict(report.dropped), "twins": twins})  # fmt: skip


def _questions(name, path):
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
        return report, report.samples
    from .data.sources import load_samples

    report = load_samples(name, path)
    return report, report.samples


def _parser():
    parser = argparse.ArgumentParser(prog="python -m toolexpander_lite", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name, function, help):
        sub = commands.add_parser(name, help=help, description=help)
        sub.set_defaults(function=function)
        return sub

    def model(sub, profile):
        sub.add_argument("--profile", default=profile, help=f"one of {', '.join(PROFILES)}")
        sub.add_argument("--model", help="Hub id or local folder, instead of the profile's")
        sub.add_argument("--profile-set", action="append", default=[], metavar="NAME=VALUE",
                         help="any other field of the profile, max_prompt_tokens=1024 for example")  # fmt: skip

    def model_and_data(sub):
        model(sub, "nano")
        sub.add_argument("--data", help="data source, instead of the profile's")
        sub.add_argument("--data-path", help="local file of that source")

    def invitation(sub):
        text = "invite an example of its own, as recipes with a bonus do"
        sub.add_argument("--invite", action="store_true", help=text)

    sub = command("train", _train, "one GRPO run, into a run directory")
    sub.add_argument("--recipe", default="grpo", help=f"one of {', '.join(RECIPES)}")
    model_and_data(sub)
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--steps", type=int, help="optimizer steps, instead of the profile's")
    sub.add_argument("--eval-every", type=int, help="optimizer steps between evaluations and checkpoints")
    sub.add_argument("--eval-split", help="test (default), or validation to choose settings on")
    sub.add_argument("--learning-rate", type=float)
    sub.add_argument("--beta", type=float, help="weight of the KL term")
    sub.add_argument("--num-generations", type=int, help="rollouts per prompt")
    sub.add_argument("--set", action="append", default=[], metavar="NAME=VALUE",
                     help="any other field of the recipe, retest=never for example; may be repeated")  # fmt: skip
    sub.add_argument("--out", help="run directory; default out/RECIPE/seed-SEED")
    sub.add_argument("--resume", action="store_true", help="go on from the last checkpoint in --out")

    sub = command("preflight", _preflight, "look at a run before it is started: prompts, tokens, memory, groups, time")
    sub.add_argument("--recipe", default="grpo", help=f"one of {', '.join(RECIPES)}")
    model_and_data(sub)
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--steps", type=int, help="optimizer steps of the run, instead of the profile's")
    sub.add_argument("--trial-steps", type=int, default=1, help="ordinary steps to take (default 1)")
    sub.add_argument("--out", default="out", help="run directory to come")

    sub = command("scan", _scan, "count the training rows that are hard: plainly, and with two kinds of demonstrations")
    sub.add_argument("--recipe", default="paper_replace", help="its temperature, scan, demonstrations and prompts")
    model_and_data(sub)
    sub.add_argument("--seed", type=int, default=0, help="of the rows drawn, their demonstrations and the rollouts")
    sub.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="any other field of the recipe")
    sub.add_argument("--out", default="out/scan", help="folder for its results; a scan that was cut goes on there")

    sub = command("evaluate", _evaluate, "greedy accuracy of a model on the held-out prompts of a profile")
    model_and_data(sub)
    sub.add_argument("--eval-prompts", type=int)
    invitation(sub)

    sub = command("ask", _ask, "one question to a model trained on your own tools, whose calls are executed")
    sub.add_argument("model", help="final folder of train or warm-start with --data own")
    sub.add_argument("question")

    sub = command("data", _data, "load a public data set, count what is dropped, look for evaluation rows in it")
    sub.add_argument("source", help="a source of data.sources.SOURCES, toolrl for example")
    sub.add_argument("--data-path", help="local file of that source")
    sub.add_argument("--limit", type=int, help="stop at so many samples")
    sub.add_argument("--against", nargs="+", default=[], metavar="SOURCE[=FILE]",
                     help="where to look for equal questions: a source, bfcl:CATEGORY or api-bank:LEVEL")  # fmt: skip
    sub.add_argument("--out", help="write the numbers to this file, as JSON")

    def questions(sub):
        model(sub, "smol")
        sub.add_argument("--limit", type=int, help="so many questions of each part, always the same random draw")
        sub.add_argument("--max-new-tokens", type=int, help="cap per answer")
        sub.add_argument("--batch-size", type=int)
        invitation(sub)
        sub.add_argument("--out", required=True, help="folder of the answers; a run that was cut goes on there")

    sub = command("bfcl", _bfcl, "BFCL v4, single-turn Python categories, scored by its official checker")
    sub.add_argument("--categories", nargs="+", metavar="CATEGORY", help="all by default")
    questions(sub)

    sub = command("api-bank", _api_bank, "API-Bank call accuracy, strict, one try")
    sub.add_argument("--levels", type=int, nargs="+", default=[1, 2], metavar="LEVEL", help="1 and 2 by default")
    sub.add_argument("--publisher", default="owners", help="owners (default) or hammer: whose rows")
    sub.add_argument("--data-path", help="local file of one level's rows, in either form")
    questions(sub)

    sub = command("executed", _executed, "let a model solve tasks in a world of tools with state; the state is judged")
    model(sub, "smol")
    sub.add_argument("--split", choices=("train", "test"), help="default both: no profile trains on these tasks")
    sub.add_argument("--limit", type=int, help="so many of the tasks, drawn at random, the same each time")
    sub.add_argument("--max-new-tokens", type=int, default=256, help="cap per answer (default 256: three calls fit)")
    sub.add_argument("--http", action="store_true", help="run the calls through a service on the loopback address")
    invitation(sub)
    sub.add_argument("--out", type=Path, help="write the episodes to this file, one JSON object per line")

    sub = command("runs", _runs, "table of the runs below a folder")
    sub.add_argument("folder", type=Path)

    sub = command("doctor", _doctor, "read a GRPO log of any framework, and say what is wrong with the run")
    sub.add_argument("path", type=Path, help="a run directory, or a log: JSON, JSONL, CSV, parquet, console output ...")

    sub = command("pack", _pack, "move the complete runs of studies into compressed tables, which are read alike")
    sub.add_argument("folders", type=Path, nargs="+", help="of studies")
    sub.add_argument("--compare", type=Path, metavar="FOLDER",
                     help="move nothing: compare every value with the plain runs in FOLDER/STUDY")  # fmt: skip

    command("hardware", _hardware, "what this machine is and which profile fits it")

    sub = command("report", _report, "rebuild the README's table and pictures from the committed logs")
    sub.add_argument("--notebooks", action="store_true", help="execute the notebooks too, into out/ (they also train)")

    sub = command("study", _study, "make the runs of a study that are not there yet")
    sub.add_argument("name", help="one of " + ", ".join(plan_names()) + "; or a plan of your own, FILE.toml")
    sub.add_argument("--workers", type=int, default=1, help="runs at a time, one thread each")
    sub.add_argument("--only", default="", help="variants to run, by name or beginning, with commas")
    sub.add_argument("--runs", default="assets/runs", help="folder that holds the studies; another makes a second set")
    sub.add_argument("--dry-run", action="store_true", help="only print the commands")

    sub = command("notebooks", _notebooks, "execute the notebooks; copies and figures go to --out")
    sub.add_argument("--out", default="out")
    sub.add_argument("--quick", action="store_true", help="a few training steps only, as CI does")
    sub.add_argument("--only", help="beginning of the name of the notebooks to run, 01 for example")

    sub = command("nano-policy", _nano_policy, "rebuild the nano policy (about 5 minutes on 2 cores), or a harder one")
    sub.add_argument("--graded", choices=("strong", "weak"), help="rebuild a policy of the graded world instead")
    sub.add_argument("--code-rate", type=float, help="how often a plain question is answered in codes, per argument")
    sub.add_argument("--follow-rate", type=float, help="how often a demonstration's codes are followed, per argument")
    sub.add_argument("--example-rate", type=float, help="how often an invited answer begins with an example of its own")
    sub.add_argument("--early-example-rate", type=float, help="the same for the first part of the steps")
    sub.add_argument("--early-share", type=float, help="how much of the steps that part is (default two thirds)")
    sub.add_argument("--out", required=True)

    sub = command("warm-start", _warm_start, "short SFT for a model that writes no tool calls, saved as a model folder")
    model_and_data(sub)
    sub.add_argument("--warm-start-steps", type=int)
    sub.add_argument("--demonstrations", action="store_true", help="show each row once more, with a demonstration")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--out", required=True)
    return parser


def main(argv=None):
    arguments = _parser().parse_args(argv)
    try:
        contextvars.copy_context().run(arguments.function, arguments)  # a profile may set the judge's rule
    except KitError as error:  # says what is wrong and what to do; anything else keeps its traceback
        print(f"error: {error}", file=sys.stderr)
        return 2
    except torch.OutOfMemoryError as error:
        print(
            f"error: out of GPU memory ({str(error)[:200]}); lower micro_batch or the lengths in the profile",
            file=sys.stderr,
        )
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
