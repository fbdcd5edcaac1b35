"""Does the kit's own matcher agree with BFCL's official checker, and where not, why?

    python benchmarks/bfcl_agreement.py [--results FILE ...] [--out assets/benchmarks/bfcl_agreement.json]

Every question with allowed answers is answered by its gold calls and by every mutation of them that applies. Each
answer goes through `calls.match_calls` against the gold calls, and through the official checker.
`--results` adds what models wrote: BFCL result files, as `python -m toolexpander_lite bfcl` leaves them.
Every disagreement is listed under its kind and cause, by the id of its question; of mutations, two of each are spelled
out, of models' answers all. One whose cause is not among `CAUSES` is "unexplained".
"""

import argparse
import copy
import json
import random
import re
from collections import Counter, defaultdict
from pathlib import Path

from toolexpander_lite.base.errors import KitError, RunError
from toolexpander_lite.base.runs import write_json
from toolexpander_lite.base.strict_json import same_value
from toolexpander_lite.evaluation.answers import read_answers
from toolexpander_lite.evaluation.bfcl import CATEGORIES, check_calls, find_package, load_questions, spell_out
from toolexpander_lite.method.calls import match_calls, parse_completion

EXAMPLES = 2  # spelled out, of each kind and cause of a disagreement between mutations
CAUSES = {
    "optional_argument": "an optional argument is spelled out with a value that BFCL allows; ours takes no argument "
    "that the gold call does not give",
    "other_allowed_value": "BFCL allows several values for the argument, ours only that of the gold call",
    "loose_text": "BFCL compares texts without case, spaces and ,./-_*^ and takes ' for \"; ours compares exactly",
    "whole_float": "a whole number with .0 where the schema does not say number: the same number to ours (JSON knows "
    "one number type), another type to BFCL",
    "greedy_pairing": "the right calls in another order: BFCL gives each expected call the first answer that fits, "
    "which may be the one that another expected call needs",
    "no_right_answer": "BFCL's allowed answers contradict the tool's own schema: it rejects its own first choices, too",
    "unexplained": "none of the above",
}


def optional_arguments(question, index):
    """{argument: allowed values} that the gold call with this index leaves out, those listed in its tool's schema."""
    ((name, allowed),) = question.answers[index].items()
    listed = next(f["parameters"]["properties"] for f in question.functions if f["name"] == name)
    given = question.sample.calls[index]["arguments"]
    return {
        argument: [spell_out(v, listed[argument]["type"]) for v in values if v != ""]
        for argument, values in allowed.items()
        if argument in listed and argument not in given
    }


def replaced(calls, index, argument, value):
    """The calls with one argument given another value (a copy)."""
    calls = copy.deepcopy(calls)
    calls[index]["arguments"][argument] = value
    return calls


def argument_mutations(question, index, rng):
    """(kind, calls) for every mutation of one argument of the call with this index that applies."""
    gold = question.sample.calls
    ((name, allowed),) = question.answers[index].items()
    listed = next(f["parameters"]["properties"] for f in question.functions if f["name"] == name)
    by_type = defaultdict(list)
    for argument, value in gold[index]["arguments"].items():
        by_type[type(value)].append((argument, value))
    for found in by_type.values():
        rng.shuffle(found)

    def first(kind, type_, change, applies=lambda value: True):
        for argument, value in by_type[type_]:
            if applies(value):
                yield kind, replaced(gold, index, argument, change(value))
                return

    yield from first("wrong text", str, lambda v: v + " zzz")
    yield from first("wrong integer", int, lambda v: v + 7919)
    yield from first("wrong float", float, lambda v: v + 0.25)
    yield from first("wrong boolean", bool, lambda v: not v)
    yield from first("integer as float", int, float)
    yield from first("whole float as integer", float, int, float.is_integer)
    yield from first("integer as text", int, str)
    yield from first("float as text", float, str)
    yield from first("text as list", str, lambda v: [v])
    yield from first("boolean as text", bool, str)
    yield from first("boolean as integer", bool, int)
    yield from first("text in upper case", str, str.upper, lambda v: v != v.upper())
    yield from first("text without spaces", str, lambda v: v.replace(" ", ""), lambda v: " " in v)
    yield from first("text with outer spaces", str, lambda v: f" {v} ")
    yield from first("text with a full stop", str, lambda v: v + ".")
    yield from first("text with underscores", str, lambda v: v.replace(" ", "_"), lambda v: " " in v)
    yield from first("empty text", str, lambda v: "", bool)
    yield from first("list reversed", list, lambda v: v[::-1], lambda v: v != v[::-1])
    yield from first("list cut", list, lambda v: v[:-1], bool)
    yield from first("list doubled", list, lambda v: v + v, bool)
    yield from first("object key missing", dict, lambda v: dict(list(v.items())[1:]), bool)
    yield from first("object key added", dict, lambda v: v | {"zzz": 1})
    for argument, value in gold[index]["arguments"].items():
        kind = listed.get(argument, {}).get("type")
        others = [spell_out(v, kind) for v in allowed[argument] if v != ""]
        others = [v for v in others if not same_value(v, value)]
        if others:
            yield "other allowed value", replaced(gold, index, argument, rng.choice(others))
            break
    if gold[index]["arguments"]:
        argument = rng.choice(sorted(gold[index]["arguments"]))
        yield "null", replaced(gold, index, argument, None)
        fewer = copy.deepcopy(gold)
        del fewer[index]["arguments"][argument]
        yield "argument missing", fewer
        yield "argument in another case", renamed_argument(gold, index, argument)
    yield "unlisted argument", replaced(gold, index, "zzz", 1)
    optional = {k: v for k, v in optional_arguments(question, index).items() if v}
    if optional:
        argument = rng.choice(sorted(optional))
        yield "optional argument, allowed value", replaced(gold, index, argument, rng.choice(optional[argument]))
        yield "optional argument, wrong value", replaced(gold, index, argument, "zzz")


def renamed_argument(gold, index, argument):
    calls = copy.deepcopy(gold)
    calls[index]["arguments"][argument.swapcase()] = calls[index]["arguments"].pop(argument)
    return calls


def renamed_call(gold, index, name):
    calls = copy.deepcopy(gold)
    calls[index]["name"] = name
    return calls


def call_mutations(question, index, rng):
    """(kind, calls) for every mutation of whole calls that applies."""
    gold = question.sample.calls
    yield "gold", gold
    yield "no call", []
    yield (
        "arguments reordered",
        [{"name": c["name"], "arguments": dict(reversed(c["arguments"].items()))} for c in gold],
    )
    yield "call given twice", [*gold, gold[index]]
    others = sorted({t["function"]["name"] for t in question.sample.tools} - {gold[index]["name"]})
    if others:
        yield "other tool", renamed_call(gold, index, rng.choice(others))
    yield "unlisted tool", renamed_call(gold, index, "zzz")
    yield "tool name in another case", renamed_call(gold, index, gold[index]["name"].swapcase())
    if "." in gold[index]["name"]:
        yield "tool name with _ for .", renamed_call(gold, index, gold[index]["name"].replace(".", "_"))
    if len(gold) > 1:
        yield "calls reversed", gold[::-1]
        yield "a call missing", gold[:index] + gold[index + 1 :]
        if gold[index] != gold[index - 1]:
            yield "a call in place of another", [*gold[:index], gold[index - 1], *gold[index + 1 :]]


def cause_of(question, calls, ours, official):
    """Why the two disagree on these calls -> a key of `CAUSES`."""
    if not check_calls(question, question.sample.calls)[0]:
        return "no_right_answer"
    if ours.ok and any(_whole_float(question, call) for call in calls):
        return "whole_float"
    if ours.ok:
        return "greedy_pairing" if len(calls) > 1 else "unexplained"
    if ours.reason in ("extra_argument", "wrong_argument"):
        if all(_allowed(question, call) for call in calls):
            return "optional_argument" if ours.reason == "extra_argument" else "other_allowed_value"
        if all(_allowed(question, call, loosely) for call in calls):
            return "loose_text"
    return "unexplained"


def loosely(value):
    """A value as BFCL's checker compares it: its texts without case, spaces and some signs."""
    if isinstance(value, str):
        return re.sub(r"[ ,./\-_*^]", "", value).lower().replace("'", '"')
    if isinstance(value, list):
        return [loosely(item) for item in value]
    return {key: loosely(item) for key, item in value.items()} if isinstance(value, dict) else value


def _whole_float(question, call):
    kinds = {t["function"]["name"]: t["function"]["parameters"]["properties"] for t in question.sample.tools}
    listed = kinds.get(call["name"], {})
    return any(
        isinstance(value, float) and value.is_integer() and listed.get(name, {}).get("type") != "number"
        for name, value in call["arguments"].items()
    )


def _allowed(question, call, read=lambda value: value):
    """Is every argument, as `read` has it, an allowed value of some allowed call of this tool?"""
    for answer in question.answers:
        ((name, allowed),) = answer.items()
        kinds = next(f["parameters"]["properties"] for f in question.functions if f["name"] == name)
        if name == call["name"] and all(
            any(
                same_value(read(value), read(spell_out(v, kinds.get(argument, {}).get("type"))))
                for v in allowed.get(argument, [])
            )
            for argument, value in call["arguments"].items()
        ):
            return True
    return False


def answers_of(question):
    """All answers to one question -> (kind, calls)."""
    rng = random.Random(question.sample.id)
    index = rng.randrange(len(question.answers))
    yield from call_mutations(question, index, rng)
    yield from argument_mutations(question, index, rng)


def model_answers(files):
    """(question, folder of the model's answers, calls) of each answer in BFCL result files that has allowed ones.

    Raises:
        KitError: no such file, one that is damaged or not called BFCL_v4_CATEGORY_result.json, or other questions.
    """
    for file in files:
        if not Path(file).is_file():
            raise RunError(f"no result file {file}")
        category = Path(file).name.removeprefix("BFCL_v4_").removesuffix("_result.json")
        questions = {q.sample.id: q for q in load_questions(category)}
        for row in read_answers(file):
            question = questions.get(row["id"])
            if question is None:
                raise RunError(f"{file} answers {row['id']!r}, which is no question of {category!r}")
            if question.answers is not None:
                folder = Path(file).parents[min(3, len(Path(file).parents) - 1)]  # of the layout that `bfcl` leaves
                yield question, folder.as_posix(), parse_completion(row["result"]).calls


def compare(answers, most=EXAMPLES):
    """(question, kind, calls) -> counts, causes and disagreements, `most` of each spelled out, for the JSON."""
    counts, causes, examples, apart = defaultdict(Counter), Counter(), defaultdict(list), defaultdict(list)
    asked, readable = set(), 0
    for question, kind, calls in answers:
        asked.add(question.sample.id)
        readable += bool(calls)
        ours = match_calls(calls, question.sample.calls, question.sample.tools)
        official, error = check_calls(question, calls)
        counts[kind][f"ours {'right' if ours.ok else 'wrong'}, official {'right' if official else 'wrong'}"] += 1
        if ours.ok == official:
            continue
        cause = cause_of(question, calls, ours, official)
        causes[cause] += 1
        apart[f"{kind}: {cause}"].append(question.sample.id)
        if len(examples[f"{kind}: {cause}"]) < most:
            examples[f"{kind}: {cause}"].append({
                "question": question.sample.id, "answer": calls, "gold": question.sample.calls,
                "ours": ours.reason, "why": ours.detail, "official": error or "valid",
            })  # fmt: skip
    total = sum((counter for counter in counts.values()), Counter())
    agreed = sum(n for outcome, n in total.items() if outcome.count("right") != 1)
    return {
        "answers": total.total(), "with_a_readable_call": readable, "questions": len(asked), "agreed": agreed,
        "agreement": round(agreed / total.total(), 4), "outcomes": total,
        "causes": {name: {"answers": causes[name], "explanation": CAUSES[name]} for name in CAUSES if causes[name]},
        "by_kind": counts, "examples": examples,
        "disagreements": {name: " ".join(ids) for name, ids in apart.items()},
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", nargs="*", default=[], help="BFCL result files of models")
    parser.add_argument("--out", default="assets/benchmarks/bfcl_agreement.json")
    arguments = parser.parse_args()
    try:
        written = list(model_answers(arguments.results))  # first: a mistyped name should not cost the rest
    except KitError as error:
        parser.error(str(error))
    questions = [q for category in CATEGORIES if "relevance" not in category for q in load_questions(category)]
    result = {
        "bfcl_eval": find_package()[1], "questions": len(questions),
        "note": "the share that agrees depends on the mix of mutations, which is ours; by_kind is what to read",
        "questions_without_a_right_answer": [
            q.sample.id for q in questions if not check_calls(q, q.sample.calls)[0]
        ],
        "mutations": compare((q, kind, calls) for q in questions for kind, calls in answers_of(q)),
        "models": compare(written, most=len(written)) if written else "not run",
    }  # fmt: skip
    write_json(arguments.out, result)
    for name in ("answers", "agreement", "outcomes", "causes"):
        print(name, json.dumps(result["mutations"][name], indent=1))


if __name__ == "__main__":
    main()
