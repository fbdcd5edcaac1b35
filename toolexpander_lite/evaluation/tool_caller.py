"""Use a model that was trained on your own tools, and score it by what its calls do.

    from toolexpander_lite.evaluation.tool_caller import ToolCaller

    ask = ToolCaller.load("out/my-tools/final")
    answer = ask("Set a timer for 7 minutes for the tea.")
    print(answer.calls, answer.results, answer.text)
"""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ..base.errors import DataError, ModelError
from ..base.intervals import mean
from ..base.runs import read_json
from ..base.strict_json import same_value
from ..data.own_tools import PACKED, load_tools
from ..data.own_turns import TIMEOUT, UNSEEN
from ..method.calls import judge, parse_completion
from ..method.prompts import STYLES, render_messages, render_prompt, style_of, wants_think
from ..method.samples import ToolSample
from ..models.policy import load_folder
from ..worlds.api_tasks import CHAIN_PROMPT
from .accuracy import generate
from .executed import render_chat


@dataclass(frozen=True)
class Answer:
    """What a question led to: the calls in order, a `ToolResult` for each, and the last text the model wrote."""

    calls: list
    results: list
    text: str


def _how_asked(folder):
    """What a run on your own tools left in its `final` folder -> (prompt style, max_new_tokens, rounds).

    Raises:
        ModelError: the folder is not such a one.
    """
    try:
        asked = json.loads(Path(folder, "tools.json").read_text(encoding="utf-8"))
        style, cap = asked["style"], asked["max_new_tokens"]
        rounds = asked.get("rounds", 1)  # of one turn, where an older folder does not say
        if style not in STYLES or not isinstance(cap, int) or not isinstance(rounds, int):
            raise ValueError(f"style {style!r}, max_new_tokens {cap!r}, rounds {rounds!r}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{folder} does not hold what a tool caller needs ({type(error).__name__}: {error}); give the final "
            "folder of `train` or `warm-start` with --data own"
        ) from None
    return style, cap, rounds


def style_in(folder):
    """The prompt style that a model was trained in -> key of `STYLES`; "think" where nothing tells.

    Own tools have it beside them; of other runs the config beside `final` tells it, while the folder stays where it is.
    """
    if Path(folder, "tools.json").is_file():
        return _how_asked(folder)[0]
    config = Path(folder).parent / "config.json"
    recipe = read_json(config).get("recipe") if Path(folder).name == "final" and config.is_file() else None
    recipe = recipe if isinstance(recipe, dict) else {}  # another program's config.json tells nothing
    style = recipe.get("prompt_style", "think")
    return style_of(True) if style == "think" and recipe.get("invite") else style


class ToolCaller:
    """A model with your tools: `caller("question")` lets it call them -> `Answer`. State lasts as long as the caller.

    Attributes:
        tools: `OwnTools`; `tools.state()` says what the calls have changed.
    """

    def __init__(self, model, tokenizer, tools, style="think", max_new_tokens=192, rounds=1):
        self.model, self.tokenizer, self.tools = model, tokenizer, tools
        self.style, self.max_new_tokens, self.rounds = style, max_new_tokens, rounds

    @classmethod
    def load(cls, folder):
        """The `final` folder of a run on `--data own` -> `ToolCaller`.

        Weights are float32, an adapter is added into its base. The folder's Python file is run: load no folder that
        you would not run a program from.

        Raises:
            ModelError: the folder is not such a one, or its model cannot be loaded.
            DataError: its tools cannot be loaded.
        """
        style, cap, rounds = _how_asked(folder)
        tools = load_tools(Path(folder, PACKED))
        return cls(*load_folder(folder), tools, style, cap, rounds)

    def __call__(self, question, rounds=None, timeout=TIMEOUT):
        """Ask, and execute what is called -> `Answer`. Whatever the model writes, nothing is raised.

        Args:
            question: text, or a chat of `{"role", "content"}` that ends with the user's turn.
            rounds: completions at most; None is what the folder says: 1, or what a model of several turns was trained
                with. With 2 the model reads its tools' results and goes on; one that was trained on single turns often
                repeats its calls then, and they are executed again.
            timeout: seconds for each call.
        """
        chat = [{"role": "user", "content": question}] if isinstance(question, str) else question
        schemas = self.tools.registry.schemas()
        if self.rounds > 1:
            chat = [{"role": "system", "content": CHAIN_PROMPT}, *chat]
        messages = render_messages(ToolSample("asked", "own", chat, schemas, []), invite=self.style)
        calls, results, text = [], [], ""
        for _ in range(rounds or self.rounds):
            prompt = render_chat({"messages": messages, "tools": schemas}, self.tokenizer)
            text = generate(self.model, self.tokenizer, [prompt], self.max_new_tokens)[0]
            made = parse_completion(text, wants_think(self.style)).calls
            found = self.tools.registry.execute_calls(made, timeout=timeout)
            calls, results = calls + made, results + found
            if not made:
                break
            said = [json.dumps(r.value if r.ok else {"error": r.error}, ensure_ascii=False) for r in found]
            messages = [*messages, {"role": "assistant", "content": text}]
            messages += [{"role": "tool", "content": content} for content in said]
        return Answer(calls, results, text)


def score_executed(completions, samples, file, think=True, timeout=TIMEOUT):
    """Completions of `samples`, judged by their words and by what their calls do -> dict.

    Each row begins twice with the file's own state: once the gold calls are executed, once the model's. Right is what
    leaves the same results and the same state (`OwnTools.state`). Tools that draw at random or read the clock cannot
    be judged so.

    Returns:
        {"questions", "matched": share right by exact match, "executed": share right by what is done, of the rows whose
        gold runs, "reasons": {code: share of all rows}, "gold_fails": {error: number of rows whose gold fails so}}; a
        reason is the judge's where nothing was executed, that of the first call that failed, "other_result" or
        "other_state".

    Raises:
        DataError: the gold of every row fails, or does nothing that could be compared.
    """
    reasons, matched, faults, before = Counter(), [], Counter(), load_tools(file).state()
    for completion, sample in zip(completions, samples, strict=True):
        verdict = judge(completion, sample.calls, sample.tools, think)
        matched.append(verdict.reason == "ok")
        gold, wanted = _done(file, sample.calls, timeout)
        fault = next((result.error for result in gold if not result.ok), None)
        if sample.calls and wanted == before and all(result.value is None for result in gold):
            fault = fault or f"the right calls {UNSEEN}"
        if fault:
            faults[fault] += 1
            reasons["gold_fails"] += 1
            continue
        calls = verdict.parsed.calls
        results, state = _done(file, calls, timeout)
        failed = [r.reason for r in results if not r.ok]
        if failed or not (calls and sample.calls):
            reasons[failed[0] if failed else verdict.reason] += 1
        elif not same_value([r.value for r in results], [r.value for r in gold]):
            reasons["other_result"] += 1
        else:
            reasons["ok" if state == wanted else "other_state"] += 1
    judged = len(samples) - faults.total()
    if not judged:
        raise DataError(f"no row of {len(samples)} can be judged: {faults.most_common(1)[0][0]}; mend {file}")
    return {"questions": len(samples), "matched": mean(matched), "executed": reasons["ok"] / judged,
            "reasons": {reason: n / len(samples) for reason, n in reasons.most_common()},
            "gold_fails": dict(faults)}  # fmt: skip


def _done(file, calls, timeout):
    """Execute calls from the file's own state on -> (results, the state afterwards)."""
    tools = load_tools(file)
    results = tools.registry.execute_calls(calls, timeout=timeout)
    return results, tools.state()


def evaluate_executed(model, tokenizer, samples, file, max_new_tokens, invite=False, batch_size=16):
    """`score_executed` of a model's greedy answers to held-out `samples` -> dict."""
    prompts = [render_prompt(sample, tokenizer, invite=invite) for sample in samples]
    completions = generate(model, tokenizer, prompts, max_new_tokens, batch_size=batch_size)
    return score_executed(completions, samples, file, wants_think(invite))
