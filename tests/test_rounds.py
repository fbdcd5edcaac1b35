"""The paper's rounds by hand: the scan, the list of hard rows, their demonstrations, and what a round serves."""

import json
from types import SimpleNamespace

import pytest

from toolexpander_lite.base.errors import PoolError
from toolexpander_lite.base.runs import read_jsonl
from toolexpander_lite.method.hard_pool import HardSamplePool
from toolexpander_lite.method.hard_sampling import PromptServer, begin_round, count_right, round_rows
from toolexpander_lite.method.prompts import gold_completion
from toolexpander_lite.method.samples import ToolSample
from toolexpander_lite.variants.other_demonstrations import VariantBank

NOTE = {"step": 0, "kind": "scan"}


class WordTokenizer:
    """Renders a chat as lines and counts words: enough of a tokenizer for prompts."""

    model_max_length, chat_template, name_or_path = 1000, "lines", "words"

    def apply_chat_template(self, messages, tools=None, add_generation_prompt=True, tokenize=False):
        names = " ".join(t["function"]["name"] for t in tools or ())
        turns = (f"{m['role']}: {m['content']}" for m in messages if m["role"] != "system")
        return "\n".join([f"tools: {names}", *turns])

    def __call__(self, text, **options):
        return SimpleNamespace(input_ids=text.split())


def row(name, tool="f", value=None, tools=("f",)):
    schemas = [{"type": "function", "function": {"name": t, "parameters": {"type": "object"}}} for t in tools]
    calls = [{"name": tool, "arguments": {"x": value or name}}]
    return ToolSample(name, tool, [{"role": "user", "content": f"question {name}"}], schemas, calls)


class Policy:
    """Right in `plain[name]` of 10 rollouts of a row's question, in `shown[name]` of 10 with demonstrations."""

    def __init__(self, rows, plain, shown=None):
        self.rows, self.plain, self.shown, self.asked = {f"question {r.id}": r for r in rows}, plain, shown or {}, []

    def __call__(self, prompts, seed):
        answers, times = [], {}
        for prompt in prompts:
            times[prompt] = times.get(prompt, 0) + 1
            sample = self.rows[prompt.rsplit("user: ", 1)[1]]
            rates = self.shown if "assistant:" in prompt else self.plain
            rate = rates.get(sample.id, 0)
            rate = rate(prompt) if callable(rate) else rate
            answers.append((gold_completion(sample) if times[prompt] <= rate else "<think>no", 7))
        self.asked.append((list(prompts), seed))
        return answers


ROWS = [row("a"), row("b"), row("c"), row("d", "g", tools=("g",))]


def rendered(rows):
    return [(r, f"user: question {r.id}") for r in rows]


def made(source="random", rows=ROWS, **options):
    pool = HardSamplePool([r.id for r in rows])
    return pool, PromptServer(pool, VariantBank(rows, source), rows, WordTokenizer(), **{"demos": 2, **options})


def test_a_scan_counts_right_rollouts_and_what_it_costs(tmp_path):
    policy = Policy(ROWS, {"a": 10, "b": 1})
    counted = count_right(policy, rendered(ROWS), 10, 0, NOTE, tmp_path / "scans.jsonl", chunk=3)
    assert counted.right == {"a": 10, "b": 1, "c": 0, "d": 0}
    assert (counted.rollouts, counted.tokens) == (40, 280) and counted.seconds >= 0
    assert [len(prompts) for prompts, _ in policy.asked] == [30, 10], "whole chunks, each rollout a prompt"
    assert len({seed for _, seed in policy.asked}) == 2
    lines = read_jsonl(tmp_path / "scans.jsonl")
    assert [(e["sample_id"], e["right"], e["rollouts"], e["tokens"]) for e in lines][1] == ("b", 1, 10, 70)


def test_a_cut_scan_goes_on_and_finds_the_same(tmp_path):
    file = tmp_path / "scans.jsonl"

    def random_policy(prompts, seed):  # depends on the seed it is given alone, as sampling does
        import random

        rng = random.Random(seed)
        return [(gold_completion(ROWS["abcd".index(p[-1])]) if rng.random() < 0.5 else "", 3) for p in prompts]

    whole = count_right(random_policy, rendered(ROWS), 10, 0, NOTE, file, chunk=2)
    lines = file.read_text().splitlines(keepends=True)
    for kept in (1, 2, 3, 4):
        file.write_text("".join(lines[:kept]))
        asked = []

        def counting(prompts, seed):
            asked.extend(prompts)
            return random_policy(prompts, seed)

        again = count_right(counting, rendered(ROWS), 10, 0, NOTE, file, chunk=2)
        assert len(read_jsonl(file)) == 4
        assert again.right == whole.right and (again.rollouts, again.tokens) == (whole.rollouts, whole.tokens)
        assert len(asked) == {1: 40, 2: 20, 3: 20, 4: 0}[kept], "chunks that were cut are asked again as a whole"
    count_right(random_policy, rendered(ROWS), 10, 0, {**NOTE, "step": 20}, file, chunk=2)
    assert len(read_jsonl(file)) == 8, "another round is another scan"


@pytest.mark.parametrize("rows, rollouts", [([], 10), (rendered(ROWS), 0)])
def test_a_scan_of_nothing_is_refused(rows, rollouts):
    with pytest.raises(PoolError, match=r"a scan of \d rows, \d+ rollouts each: there is nothing to ask"):
        count_right(Policy(ROWS, {}), rows, rollouts, 0, NOTE)


def test_who_comes_back_never_gets_demonstrations_again():
    pool, _ = made()
    assert pool.take_scan({"a": 0, "b": 3, "c": 0, "d": 1}, 10, 0) == ["a", "c"]
    assert pool.take_scan({"a": 2, "b": 0, "c": 0, "d": 1}, 10, 20) == ["b", "c"], "b has become hard"
    assert pool.take_scan({"a": 0, "b": 0, "c": 0, "d": 1}, 10, 40) == ["b", "c"], "a was free already"
    assert pool.states() == ["plain", "demonstrated", "demonstrated", "solved"]
    assert "step 20 (round 0): demonstrated -> plain: 2 of 10 right in the scan" in pool.explain("a")
    for served in ("plain", "demonstrated"):  # groups of the round change nothing in it
        pool.observe("b", served, 5, 5, 41)
    assert pool.mode("b") == "demonstrated" and pool.visits("b") == 2


def test_a_scan_must_be_of_all_rows_and_of_the_window():
    pool, _ = made()
    with pytest.raises(PoolError, match="no result for 'b'"):
        pool.take_scan({"a": 0}, 10, 0)
    with pytest.raises(PoolError, match="5 rollouts calls nobody hard: the window is 10"):
        pool.take_scan(dict.fromkeys("abcd", 0), 5, 0)


def test_the_state_of_a_round_is_saved_whole(tmp_path):
    pool, server = made("verified")
    begin_round(pool, server, Policy(ROWS, {"a": 1}, {"b": 1}), 10, 0, 0, draws=2)
    pool.save(tmp_path / "pool.json")
    again, _ = made("verified")
    again.load(tmp_path / "pool.json")
    assert again.draws == pool.draws == {"b": 0, "c": None, "d": 0}
    assert [again.mode(id) for id in "abcd"] == ["plain", "demonstrated", "demonstrated", "demonstrated"]


@pytest.mark.parametrize("serving, expected", [
    ("plain", ["a", "b", "c", "d"]), ("replace", ["A", "b", "C", "D"]), ("add", ["a", "b", "c", "d", "A", "C", "D"]),
    ("exclude_hard", ["b"]), ("few_shot_only", ["A", "B", "C", "D"]), ("two_stage", ["A", "B", "C", "D"]),
])  # fmt: skip
def test_what_a_round_serves(serving, expected):
    """Capitals: with demonstrations."""
    pool, server = made()
    begin_round(pool, server, Policy(ROWS, {"b": 4}), 10, 0, 0)
    rows = round_rows(serving, pool, 0, 4)
    assert [id.upper() if mode == "demonstrated" else id for id, mode in rows] == expected
    columns = server({"sample_id": [id for id, _ in rows], "wanted": [mode for _, mode in rows]})
    for (id, wanted), served, prompt, why in zip(rows, columns["served"], columns["prompt"], columns["fallback"]):
        shown = wanted == "demonstrated" and id != "d"  # d's tool is used nowhere else
        assert served == ("demonstrated" if shown else "plain") and ("assistant:" in prompt) == shown
        assert why == ("no_demonstration" if wanted == "demonstrated" and id == "d" else "")
        assert f'"x": "{id}"' not in prompt, "never the row's own answer"


def test_two_stages_and_a_fixed_share():
    pool, server = made()
    begin_round(pool, server, Policy(ROWS, {"b": 4}), 10, 0, 0)
    stages = [{mode for _, mode in round_rows("two_stage", pool, n, 4)} for n in range(4)]
    assert stages == [{"demonstrated"}] * 2 + [{"plain"}] * 2
    shares = [[id for id, m in round_rows("mixed", pool, n, 4, seed=0, share=0.5) if m != "plain"] for n in range(9)]
    assert {len(chosen) for chosen in shares} == {2} and len(set(map(tuple, shares))) > 1


def test_random_demonstrations_are_drawn_once_and_stay():
    pool, server = made(rows=[row(name) for name in "abcdefgh"])
    policy = Policy(list(server.samples.values()), {"b": 4})
    prompts = []
    for step in (0, 20, 40):
        assert len(begin_round(pool, server, policy, 10, step, 0)) == 1, "the scan alone"
        prompts.append(server.serve("a")["prompt"])
        pool.observe("a", "demonstrated", 5, 2, step + 1)
        prompts.append(server.serve("a")["prompt"])
    assert len(set(prompts)) == 1 and prompts[0].count("assistant:") == 2


def test_verified_ones_are_drawn_anew_until_the_policy_is_right():
    rows = [row(name) for name in "abcdefgh"]
    helps = lambda prompt: 3 if "question e" in prompt and "question a" in prompt.rsplit("user: ", 1)[1] else 0  # noqa: E731
    pool, server = made("verified", rows)
    policy = Policy(rows, {name: 5 for name in "cdefgh"}, {"a": helps, "b": 0})
    spent = begin_round(pool, server, policy, 10, 0, 0, draws=30)
    draw = pool.draws["a"]
    assert "question e" in server.serve("a")["prompt"], "the draw that it was right with is what is shown"
    earlier = [server.demonstrate(server.samples["a"], draw=n)[0] for n in range(draw)]
    assert draw > 0 and not any("question e" in prompt for prompt in earlier), "the first such draw"
    assert [c.rollouts for c in spent] == [80] + [20] * (draw + 1) + [10] * (29 - draw), "every rollout is counted"
    # b is never right: it gets none, and the record says why.
    assert pool.draws["b"] is None
    served = server.serve("b")
    assert (served["served"], served["fallback"]) == ("plain", "not_verified") and "assistant:" not in served["prompt"]
    assert ("b", "demonstrated") not in round_rows("add", pool, 0, 4)
    # What was found is kept; who has none is tried again.
    assert [c.rollouts for c in begin_round(pool, server, policy, 10, 20, 0, draws=2)] == [80, 10, 10]
    assert pool.draws == {"a": draw, "b": None}


def test_verification_goes_on_where_it_was_cut(tmp_path):
    file = tmp_path / "scans.jsonl"
    rows = [row(name) for name in "abcd"]
    policy = Policy(rows, {"d": 1}, {"a": 1})
    pool, server = made("verified", rows)
    begin_round(pool, server, policy, 10, 0, 0, file, draws=2)
    whole = file.read_text().splitlines(keepends=True)
    file.write_text("".join(whole[:6]))  # the scan, and part of the first draw
    again, server = made("verified", rows)
    policy.asked.clear()
    begin_round(again, server, policy, 10, 0, 0, file, draws=2)
    assert again.draws == pool.draws == {"a": 0, "b": None, "c": None}
    assert sum(len(prompts) for prompts, _ in policy.asked) == 30 + 20, "nothing of the scan is asked again"
    strip = lambda line: {k: v for k, v in json.loads(line).items() if k != "seconds"}  # noqa: E731
    assert [strip(x) for x in file.read_text().splitlines()[-2:]] == [strip(x) for x in whole[-2:]]


def test_demonstrations_that_do_not_fit_are_fewer_and_never_cut():
    rows = [row(name) for name in "abcdefgh"]
    pool, server = made(rows=rows)
    begin_round(pool, server, Policy(rows, {}), 10, 0, 0)
    whole = server.serve("a")["prompt"]
    one = len(server.tokenizer(server.demonstrate(server.samples["a"])[0]).input_ids) - 1
    pool, tight = made(rows=rows, max_prompt_tokens=one)
    begin_round(pool, tight, Policy(rows, {}), 10, 0, 0)
    served = tight.serve("a")
    assert (served["served"], served["fallback"]) == ("demonstrated", "fewer_demonstrations")
    assert served["prompt"].count("assistant:") == 1 and whole.count("assistant:") == 2
    assert served["prompt"].rsplit("assistant:", 1)[1].count("</tool_call>") == 1, "the one that is shown is whole"
    pool, none = made(rows=rows, max_prompt_tokens=5)
    begin_round(pool, none, Policy(rows, {}), 10, 0, 0)
    assert none.serve("a") == {"prompt": none.render(rows[0]), "served": "plain", "fallback": "prompt_too_long"}
