"""The rules: what can be wrong with a GRPO run, and how a log shows it.

A rule is a function `log -> Seen or None`; its docstring is its line in docs/doctor.md. Its words (source, level,
likely cause, what to try, which other findings it explains) stand in rule_words.toml. What matters most stands first.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..base.collapse import has_collapsed
from .log import FLAT, by_prompt, first, last, mid, noise, rises, since, smooth, surprise, tail, text_of, text_rewards

FAULT, WARNING, NOTE = "fault", "warning", "note"
_WORDS = tomllib.loads(Path(__file__).with_name("rule_words.toml").read_text(encoding="utf-8"))
RULES = {}  # name -> Rule, in order
GOLD = ("answer", "solution", "gold", "target", "ground_truth")  # columns of a data set that hold the right answer
ROLE_MARKS = ("<|im_start|>", "<|start_header_id|>", "[INST]", "<start_of_turn>", "<|user|>", "<|turn", "\nAssistant:")
NEW_TURN = r"(?i)\n\s*(?:user|human|question|q|problem|example \d+)\s*:"


@dataclass(frozen=True)
class Rule:
    """A rule's function and its words of rule_words.toml; a `Seen` may replace level, cause and try_next."""

    check: object
    source: str
    level: str
    cause: str
    try_next: str
    explains: tuple = ()


@dataclass(frozen=True)
class Seen:
    """What a rule saw: a sentence with numbers, and rows of the table (a mask, or any Series: its index)."""

    says: str
    rows: pd.Series
    sure: str = "likely"
    level: str | None = None
    cause: str | None = None

    def index(self):
        return list(self.rows.index[self.rows] if self.rows.dtype == bool else self.rows.index)


def rule(check):
    words = dict(_WORDS[check.__name__])
    names = [n for name in words.pop("explains", ()) for n in (_WORDS[name] if name == "no_signal" else [name])]
    RULES[check.__name__] = Rule(check, explains=tuple(names), **words)
    return check


def per_cent(value):
    return f"{100 * value:.0f} %"


def num(value):
    return f"{value:.3g}"


def ends(series):
    return f"{num(first(series))} to {num(last(series))}"


# --------------------------------------------------------------------------------------- the update itself is broken
@rule
def gradient_not_finite(log):
    """grad_norm is NaN or infinite at half of the steps, or again and again."""
    bad, kl = log.not_finite("grad_norm"), log["kl"].abs()
    if len(bad) and (bad.mean() >= 0.5 or bad.sum() >= 5):
        moved = f"; KL is {num(kl.max())} at most" if len(kl) and bad.all() else ""
        level = FAULT if bad.mean() >= 0.5 else WARNING
        return Seen(f"grad_norm is not a number at {bad.sum()} of {len(bad)} steps{moved}.", bad, "sure", level)


@rule
def loss_not_finite(log):
    """The loss, the reward or the KL is NaN or infinite, at the end or in a twentieth of the rows."""
    scorer = "The reward function returns NaN or infinity (it divides by 0?); TRL gives such groups no advantage."
    for name in ("loss", "reward", "kl"):
        bad, cause = log.not_finite(name), scorer if name == "reward" else None
        if bad.sum() and (bad.iloc[-1] or bad.mean() >= 0.05):
            return Seen(f"the {name} is not a number at {bad.sum()} of {len(bad)} steps.", bad, "sure", cause=cause)


@rule
def gradient_explosion(log):
    """grad_norm leaps above 1,000 and a hundred times what was usual."""
    grad = log["grad_norm"]
    usual = grad.drop(grad.idxmax()).median() if len(grad) >= 2 else np.inf
    if len(grad) and grad.max() > max(1e3, 100 * usual):
        says = f"grad_norm reaches {num(grad.max())}; in the other rows it is {num(usual)} in the middle."
        return Seen(says, grad > max(1e3, 100 * usual), "sure")


@rule
def gradient_always_zero(log):
    """grad_norm is 0 in nearly every row although groups have spread."""
    still, spread = log["grad_norm"] < FLAT, 1 - log.zero_std.mean()
    if len(still) >= 5 and still.mean() > 0.95 and log.has("reward_std") and spread > 0.5:
        says = f"grad_norm is 0 in {per_cent(still.mean())} of the rows; {per_cent(spread)} of the groups have spread."
        return Seen(says, still, "sure")


@rule
def learning_rate_zero(log):
    """The learning rate is 0 at every step, or over the last fifth of a longer run."""
    lr, grad = log["learning_rate"], log["grad_norm"]
    if len(lr) < 5 or len(grad) and (grad.round(3) == grad).all():  # a console that prints three digits
        return None
    if lr.max() == 0:
        return Seen(f"the learning rate is 0 at all {len(lr)} steps.", lr, "sure")
    if len(lr) >= 20 and tail(lr, 0.2).max() == 0:
        return Seen("the learning rate is 0 over the last fifth of the run.", tail(lr, 0.2), "sure", WARNING)


@rule
def rollout_garbage(log):
    """Entropy is near that of random tokens from the start; the KL to the reference is tiny, or large at once."""
    entropy, kl, reward = log["entropy"], log["kl"].abs(), log["reward"]
    if not len(entropy) or entropy.min() < 3 or first(entropy) < 4:
        return None
    at_once = len(kl) and kl.iloc[0] > 1  # before any update
    if first(kl) > 0.05 and not at_once or last(reward) > log.floor + 0.1 * log.scale:
        return None
    says = f"entropy is {num(first(entropy))} nats from the start (of random tokens: about 10)"
    says += f", KL {'' if at_once else 'only '}{num(first(kl))}" if len(kl) else ""
    return Seen(f"{says}, reward {num(first(reward))}.", entropy, "likely" if len(kl) else "possible")


# --------------------------------------------------------------------------------------- the reward hardly ever pays
@rule
def no_chat_template(log):
    """Prompts are strings without any role marker, and most completions go on with a turn of the user's."""
    if log.texts is None or "prompt" not in log.texts:
        return None
    strings = log.texts[log.texts["prompt"].map(lambda value: isinstance(value, str))]
    bare = strings.loc[[not any(mark in text for mark in ROLE_MARKS) for text in strings["prompt"]]]
    on = bare["completion"].map(text_of).str.contains(NEW_TURN, regex=True).astype(bool)
    if len(bare) >= 4 and on.mean() >= 0.3:
        says = f"{len(bare)} of {len(log.texts)} prompts have no role marker, and {per_cent(on.mean())} of their "
        return Seen(says + "answers go on with a turn of the user's.", log.rows_of(bare["step"][on]))


@rule
def never_stops(log):
    """Practically every completion runs into the cap, from the first row to the last."""
    cut = log.clipped
    if len(cut) >= 2 and cut.min() >= 0.9 and cut.mean() >= 0.97 and not log.improves and not log.solved:
        says = f"{per_cent(cut.mean())} of the completions are cut, and never less than {per_cent(cut.min())} of a "
        return Seen(f"{says}step's{_lengths(log)}.", cut, "sure" if len(cut) >= 5 and log.has("clipped") else "likely")


@rule
def cut_at_cap(log):
    """Most completions are cut at the cap from the start, and the reward does not get off the ground."""
    cut = log.clipped
    if len(cut) < 3 or min(cut.iloc[0], first(cut), cut.mean()) < 0.6 or log.improves or log.solved:
        return None
    both = pd.DataFrame({"reward": log["reward"], "cut": cut}).dropna()
    whole = both["cut"] >= 0.99
    if whole.any() and last(both["reward"]) > log.floor + 0.5 * log.scale:
        return None  # cut, and paid nevertheless
    says = f"{per_cent(cut.mean())} of the completions are cut at the cap{_lengths(log)}"
    says += f"; where all are cut the reward is {num(both['reward'][whole].median())}" if whole.any() else ""
    says += f", elsewhere {num(both['reward'][~whole].mean())}" if whole.any() and not whole.all() else ""
    return Seen(says + ".", cut >= 0.5, "sure" if log.has("clipped") else "likely")


def _lengths(log):
    length, cap = log["length"], f", cap {log.cap:.0f}" if log.cap else ""
    return f" (mean length {num(length.mean())} tokens{cap})" if len(length) else ""


@rule
def scorer_rejects_right(log):
    """Completions whose last line holds the gold answer get the lowest reward (where TRL logged both)."""
    gold = next((c for c in GOLD if log.texts is not None and c in log.texts), None)
    if gold is None:
        return None
    reward, wanted = text_rewards(log.texts), log.texts[gold].astype(str).str.strip()
    ends = log.texts["completion"].map(lambda value: text_of(value).strip().rsplit("\n", 1)[-1])
    right = pd.Series([len(want) > 1 and want in end for want, end in zip(wanted, ends)], log.texts.index)
    failed = right & (reward <= reward.min() + FLAT) & (reward.max() > reward.min() + FLAT or reward.max() <= FLAT)
    if right.sum() >= 5 and failed.sum() >= 0.8 * right.sum():
        says = f"{failed.sum()} of {right.sum()} completions that end with the gold answer get {num(reward.min())}."
        return Seen(says, log.rows_of(log.texts["step"][failed]))


@rule
def reward_never_paid(log):
    """The reward is one and the same value at every step (or at four in five), without spread, and not its ceiling."""
    reward, cut = log["reward"], log.clipped
    spread = max([np.ptp(reward), *log["reward_std"], *(log["reward_max"] - reward).dropna()], default=0)
    floored = (reward <= reward.min() + FLAT) & (log.zero_std.reindex(reward.index, fill_value=1) > 0.99)
    if len(reward) < 2 or reward.min() >= 0.999 or log.improves:
        return None
    if spread > FLAT and (len(reward) < 20 or floored.mean() < 0.8):
        return None
    which = f"all {len(reward)}" if spread <= FLAT else f"{floored.sum()} of {len(reward)}"
    says = f"the reward is {num(reward.min())}, without any spread, at {which} steps"
    if len(cut) and cut.mean() < 0.3:
        says += f"; {per_cent(cut.mean())} of the completions are cut, so it is not the cap"
    return Seen(says + ".", floored, "sure" if len(reward) >= 5 or log.has("reward_max") else "likely")


@rule
def only_side_rewards(log):
    """The rewards for right answers (almost) never pay, and all that moves are side rewards."""
    mains, sides, reward = log.kind("main"), log.kind("side"), log["reward"]
    if not sides or len(reward) < 5 or np.ptp(reward) < FLAT:
        return None
    if mains:
        stuck = {name: (s <= min(0, s.min()) + FLAT).mean() for name, s in mains.items()}
        if min(stuck.values()) < 0.9 or max(first(s) - s.min() for s in mains.values()) > 0.2:
            return None  # right answers do occur, or did at first
        says = "; ".join(f"{name} pays nothing at {per_cent(share)} of the steps" for name, share in stuck.items())
        says += f", while the reward goes from {ends(reward)}."
        return Seen(says, reward, "sure" if len(reward) >= 20 else "likely")
    for name, side in sides.items():
        if not log.kind("other") and (side - reward).abs().max() < 1e-3 and reward.max() < 0.25 * log.ceiling:
            says = f"all of the reward is {name}, {num(reward.min())} to {num(reward.max())} "
            return Seen(f"{says}of {log.ceiling:g} possible.", reward, "likely", WARNING)


@rule
def format_never_met(log):
    """A format reward has one value, zero or less, at every step, while other rewards vary."""
    dead, mains = _dead_parts(log, "side"), _dead_parts(log, "main")
    if dead:
        says = _values(dead) + "".join(f"; nor does {name} ever pay" for name in mains)
        return Seen(says + ".", next(iter(dead.values())), "sure", FAULT if mains and not log.solved else WARNING)


@rule
def dead_reward_part(log):
    """A part of the reward has one value, zero or less, at every step, while other parts vary."""
    dead = _dead_parts(log, "main") | _dead_parts(log, "other")
    if dead:
        return Seen(_values(dead) + ".", next(iter(dead.values())), "sure")


def _values(parts):
    return "; ".join(f"{name} is {num(s.iloc[0])} at all {len(s)} steps" for name, s in parts.items())


def _dead_parts(log, kind):
    if len(log.parts) < 2 or not log.has("reward") or np.ptp(log["reward"]) < FLAT:
        return {}
    return {
        name: s for name, s in log.kind(kind).items()
        if len(s) >= 8 and np.ptp(s) < FLAT and s.iloc[0] <= 0 and not log[f"part_std/{name}"].max() > FLAT
        and "penalty" not in name and "examples" not in name
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------ the policy breaks
@rule
def reward_collapse(log):
    """The reward, smoothed, loses more than half of what it had at its peak, and does not come back."""
    reward = log["reward"]
    if len(reward) < 10:
        return _sudden_collapse(log, reward)
    line = smooth(reward)
    peak = line.iloc[: int(0.85 * len(line))].max()
    drop, half = peak - last(reward), log.floor + 0.6 * (peak - log.floor)
    if drop < max(0.55 * (peak - log.floor), 0.1 * log.scale, 4.5 * noise(reward) / np.sqrt(max(3, len(reward) // 10))):
        return _sudden_collapse(log, reward)
    top = line.idxmax()
    low = line.loc[top:] < half
    if since(low) is not None:
        says = f"the reward falls from {num(peak)} (around {log.at(top)}) to {num(last(reward))} at the end."
        sure = "sure" if drop > 0.8 * (peak - log.floor) else "likely"
        return Seen(says, low, sure, None, _why_broken(log))


def _sudden_collapse(log, reward):
    """An excerpt, or a break in the first rows: the reward is gone at the end, and another number left its range."""
    if len(reward) < 3 or np.ptp(reward) < 0.2 * log.scale:
        return None
    if last(reward) > log.floor + 0.3 * (reward.max() - log.floor):
        return None
    others = ("entropy_up", "kl_explosion", "length_to_cap", "length_shrinks", "sampler_mismatch")
    if reward.idxmax() != reward.index[-1] and any(RULES[name].check(log) for name in others):
        top = f"{num(reward.max())} ({log.at(reward.idxmax())})"
        says = f"the reward falls from {top} to {num(last(reward))} at the end."
        return Seen(says, reward.loc[reward.idxmax() :].iloc[1:], "possible", None, _why_broken(log))


def _why_broken(log):
    """The cause of a collapse, and what in this log speaks for it."""
    says, lr = RULES["reward_collapse"].cause, log["learning_rate"].max()
    if lr >= 2e-5 and "nano" not in str(log.settings.get("model")):
        says += f" The learning rate is high: {num(lr)} at most (usual: 1e-6 to 5e-6, with LoRA up to 2e-5)."
    return says if log.has("kl") and log.settings.get("beta") != 0 else says + " No KL term held it."


@rule
def eval_falls(log):
    """The last evaluation is below half of the run's own peak, while the training reward holds."""
    scores = log["eval"]
    if len(scores) >= 4 and scores.min() >= 0 and scores.max() > 0.05 and has_collapsed(list(scores)):
        says = f"the evaluation falls from {num(scores.max())} to {num(scores.iloc[-1])}"
        says += f"; the training reward ends at {num(last(log['reward']))}." if log.has("reward") else "."
        return Seen(says, scores < 0.5 * scores.max())


@rule
def length_to_cap(log):
    """The share of cut completions goes from under a third to over two thirds, and stays."""
    cut = log["clipped"]
    begin = since(cut > 0.66) if len(cut) >= 3 else None
    if begin is None or min(cut.iloc[0], cut.iloc[: -(-len(cut) // 3)].median()) > 0.33 or last(cut) < 0.66:
        return None
    kept = log["reward"].loc[begin:].mean()
    says = f"{per_cent(first(cut))} of the completions were cut at first, {per_cent(last(cut))} are at the end"
    says += f"; the reward there is {num(kept)}." if log.has("reward") else "."
    paid = "The answer is still found, but the model no longer stops, because the reward does not ask for an end."
    return Seen(says, cut > 0.66, "sure", None, paid if kept > log.floor + 0.5 * log.scale else None)


@rule
def length_growth(log):
    """Completions become twice as long as in the run's middle, while the reward falls."""
    length, reward, loss = log["length"], log["reward"], log["loss"].abs()
    if min(len(length), len(reward)) < 20:
        return None
    usual, before = mid(length), mid(reward)
    if last(length) > 2 * usual and last(reward) < before - 0.1 * log.scale:
        says = f"mean length grows from {num(usual)} to {num(last(length))} tokens, and the reward goes "
        says += f"from {num(before)} to {num(last(reward))}"
        says += f", and |loss| reaches {num(loss.max())}" if loss.max() > 100 else ""
        return Seen(says + ".", smooth(length) > 2 * usual)


@rule
def length_shrinks(log):
    """Completions shrink to a quarter while the reward does not rise, or to two tokens, or hold no more all along."""
    length = log["length"]
    if len(length) < 3 or log.solved or log.improves and last(length) > 2:
        return None
    if last(length) < 0.25 * first(length) or length.max() <= 2:
        short = length <= max(2, 0.3 * first(length))
        return Seen(f"mean length goes from {ends(length)} tokens.", short, level=FAULT if length.max() <= 2 else None)


@rule
def entropy_up(log):
    """Entropy rises to three times its early level, by half a nat or more, and stays there."""
    entropy = log["entropy"]
    early = min(entropy.iloc[0], entropy.iloc[: -(-len(entropy) // 3)].median()) if len(entropy) >= 3 else np.inf
    if last(entropy) > max(3 * early, early + 0.5):
        return Seen(f"entropy goes from {num(early)} to {num(last(entropy))}.", entropy > max(3 * early, early + 0.5))


@rule
def entropy_down(log):
    """Entropy falls to a fifth of its early level, and the reward, far from its ceiling, has stopped rising."""
    entropy, late = log["entropy"], tail(log["reward"], 0.5)
    early = first(entropy)
    if len(entropy) < 8 or not len(late):  # without a reward it is supervised training, and entropy is to fall
        return None
    if early < 0.1 or last(entropy) > 0.2 * early or log.solved or rises(late, 2):
        return None
    return Seen(f"entropy falls from {ends(entropy)}.", entropy < 0.3 * early)


@rule
def safe_low_answer(log):
    """Entropy and the spread of rewards shrink together while the reward settles far below its ceiling."""
    reward, spread, entropy, flat = log["reward"], log["reward_std"], log["entropy"], log.zero_std
    if min(map(len, (reward, spread, entropy))) < 4 or not FLAT < last(reward) - log.floor < 0.25 * log.scale:
        return None
    if last(entropy) < 0.5 * first(entropy) and last(spread) < 0.5 * first(spread) and last(flat) >= first(flat):
        says = f"entropy falls from {ends(entropy)} and reward_std from {num(first(spread))} to "
        says += f"{num(last(spread))}, while the reward settles at {num(last(reward))} of a possible {log.ceiling:g}; "
        says += f"{per_cent(last(flat))} of the groups have no spread at the end."
        return Seen(says, entropy < 0.6 * first(entropy))


@rule
def kl_explosion(log):
    """KL stays above 1 and ten times its earlier level, or ends above 10."""
    kl = log["kl"].abs()
    if len(kl) < 2 or len(kl) < 5 and kl.max() < 10:
        return None
    usual, end = kl.iloc[: max(2, len(kl) // 2)].median(), tail(kl, 0.2).median()
    if end > min(10, max(1, 10 * usual)):
        says = f"KL is {num(usual)} in the first half and {num(end)} at the end ({num(kl.max())} at most)."
        return Seen(says, kl > min(10, max(1, 10 * usual)), "likely", FAULT if end > 10 else WARNING)


@rule
def sampler_mismatch(log):
    """The importance ratio between trainer and sampler leaves 0.5 to 2, and stays outside."""
    ratio = log["ratio"]
    off = (ratio < 0.5) | (ratio > 2)
    begin = since(off)
    if begin is not None and off.loc[begin:].sum() >= 3:
        says = f"the mean importance ratio is {num(ratio.loc[begin:].median())} from {log.at(begin)} on (1 is right)."
        return Seen(says, off.loc[begin:])


@rule
def clip_ratio_high(log):
    """A fifth of the tokens or more is clipped, over the last third of the run."""
    clip = log["clip_ratio"]
    if len(clip) >= 5 and tail(clip).mean() > 0.2:
        return Seen(f"{per_cent(tail(clip).mean())} of the tokens are clipped in the last third.", clip > 0.2)


@rule
def gradient_spikes(log):
    """grad_norm is above twenty times its median in several rows, and the reward is lower after them than before."""
    grad, reward = log["grad_norm"], log["reward"]
    high = grad.index[grad > 20 * grad[grad > FLAT].median()]
    if len(grad) < 20 or not 3 <= len(high) <= 0.1 * len(grad):
        return None
    before, after = reward.loc[: high[0]], reward.loc[high[-1] :]
    if min(len(before), len(after)) < 3:
        return None
    least = max(0.15 * log.scale, 3 * noise(reward) * np.sqrt(1 / len(before) + 1 / len(after)))
    if after.mean() < before.mean() - least:
        says = f"grad_norm is {num(grad.median())} usually and up to {num(grad.max())}; the reward is "
        return Seen(says + f"{num(before.mean())} before and {num(after.mean())} after.", grad.loc[high], "possible")


@rule
def learning_rate_high(log):
    """The learning rate is 5e-5 or more, in a run that breaks."""
    lr = log["learning_rate"]
    if len(lr) and lr.max() >= 5e-5 and any(RULES[r].check(log) for r in ("reward_collapse", "kl_explosion")):
        return Seen(f"the learning rate is {num(lr.max())} at its highest.", lr >= 5e-5)


# ---------------------------------------------------------------------------------------------------------- hacking
@rule
def side_eats_main(log):
    """A side reward rises while a reward for right answers falls."""
    found = []
    for side, up in log.kind("side").items():
        for main, down in log.kind("main").items():
            gain, loss = last(up) - first(up), first(down) - last(down)
            if min(len(up), len(down)) < 3 or gain < 0.15 * max(up.abs().max(), FLAT) or loss < 0.3 * abs(first(down)):
                continue
            steady = up.is_monotonic_increasing and down.is_monotonic_decreasing
            if steady if len(up) < 10 else rises(up) and rises(-down):
                found.append(f"{side} rises from {ends(up)} while {main} falls from {ends(down)}")
    if found:
        few = len(log) < 10
        return Seen("; ".join(found) + ".", log.labels, *(("possible", WARNING) if few else ("likely", FAULT)))


@rule
def bonus_up_task_flat(log):
    """A side reward rises, well above its noise, while rewards for right answers stay flat and low."""
    mains = log.kind("main")
    moves = (len(s) < 30 or abs(surprise(s)) > 1.5 or last(s) > 0.5 * max(s.max(), 1) for s in mains.values())
    if not mains or any(moves):
        return None
    up = {name: s for name, s in log.kind("side").items() if rises(s, 4, 0.2 * max(s.abs().max(), FLAT))}
    if up:
        says = "; ".join(f"{name} rises from {ends(s)}" for name, s in up.items())
        says += ", while " + ", ".join(f"{name} stays at {num(last(s))}" for name, s in mains.items())
        return Seen(says + ".", next(iter(up.values())))


@rule
def pays_wrong_answers(log):
    """The reward is above half of its ceiling while the evaluation stays under a tenth; or wrong groups are paid."""
    groups = [g for g in log.groups if not g["reasons"].get("ok")]
    paid = [g for g in groups if np.mean(g["rewards"]) > 0.3]
    if len(groups) >= 10 and len(paid) > 0.3 * len(groups):
        says = f"{len(paid)} of {len(groups)} groups without a right answer are paid more than 0.3 on average."
        return Seen(says, log.rows_of(g["step"] for g in paid))
    scores, reward = log["eval"], log["reward"]
    if len(scores) >= 2 and len(reward) >= 10 and 0 <= scores.max() <= 0.1 and log.ceiling == 1 and last(reward) > 0.5:
        says = f"the training reward is {num(last(reward))} at the end, the evaluation {num(scores.iloc[-1])}."
        return Seen(says, scores)


# ----------------------------------------------------------------------------------------- groups without a signal
@rule
def identical_completions(log):
    """Shortest and longest completion have one length, not the cap, and no group has spread; or the texts are equal."""
    if log.texts is not None and {"prompt", "completion"} <= set(log.texts):
        groups = by_prompt(log.texts, log.texts["completion"].map(str))
        alike = groups.nunique()[groups.size() > 1] == 1
        if len(alike) >= 3 and alike.mean() > 0.6:
            says = f"{per_cent(alike.mean())} of the groups hold one text only."
            return Seen(says, log.rows_of(log.texts["step"]), "sure")
    low, high, reward = log["length_min"], log["length_max"], log["reward"]
    if len(reward) > 1 and np.ptp(reward) < FLAT or last(reward) > log.floor + 0.97 * log.scale:
        return None  # no spread for another reason
    same = ((high - low).abs() < 0.5) & (log.zero_std.reindex(low.index) > 0.9)
    same &= log["clipped"].reindex(low.index).fillna(0) < 0.5
    nats = (log["entropy"] * log["length"]).reindex(low.index).fillna(0)  # in a completion: with more they would differ
    same &= nats < 0.3
    if len(same) and tail(same).mean() > 0.6:
        says = f"shortest and longest completion both have {num(high[same].median())} tokens, and no group has spread."
        return Seen(says, same, "sure" if same.sum() >= 3 else "likely")


@rule
def all_fail_groups(log):
    """In the last third, more than half of the groups fail as a whole, and the reward does not rise."""
    share = log.all_fail
    if len(share) and tail(share).mean() > 0.5 and not log.improves:
        end = tail(share).mean()
        says = f"{per_cent(first(share))} of the groups fail as a whole at first, {per_cent(end)} in the last third."
        sure = "sure" if log.has("all_fail") else "likely"
        return Seen(says, share > 0.5, sure, FAULT if end > 0.9 else WARNING)


@rule
def solved_already(log):
    """Most groups have no spread because they pass, from the first rows on; a note when it came by learning."""
    reward, flat = log["reward"], log.zero_std
    if len(reward) < 3 or not len(flat) or not log.solved or tail(flat, 0.5).mean() < 0.6:
        return None
    early = first(reward) >= log.floor + 0.75 * log.scale and not log.improves
    says = f"the reward goes from {ends(reward)}, of {log.ceiling:.3g} possible; "
    says += f"{per_cent(tail(flat, 0.5).mean())} of the groups have no spread."
    learnt = "The task is learnt; further steps have nothing to learn from."
    return Seen(says, flat > 0.5, "likely", *((WARNING, None) if early else (NOTE, learnt)))


@rule
def spread_between_prompts(log):
    """Rewards have spread over the batch, but (almost) no group has any, and the reward is not near its ceiling."""
    if log.texts is not None and "prompt" in log.texts:
        reward = text_rewards(log.texts)
        none = by_prompt(log.texts, reward).agg(np.ptp) < FLAT
        if len(none) >= 4 and none.mean() > 0.95 and np.ptp(reward) > FLAT:
            says = f"rewards lie between {num(reward.min())} and {num(reward.max())}, but in {per_cent(none.mean())} "
            return Seen(says + "of the groups all rollouts get the same.", log.rows_of(log.texts["step"]), "sure")
    spreads = [log[name].median() for name in log.table if name == "reward_std" or name.startswith("part_std/")]
    flat = log["zero_std"]
    if first(flat) > 0.95 and flat.mean() > 0.95 and max(spreads, default=0) > 0.05 * log.scale and not log.solved:
        says = f"rewards differ by {num(max(spreads))} (standard deviation) over a batch, but {per_cent(flat.mean())} "
        return Seen(says + "of the groups have no spread.", flat > 0.5)


@rule
def few_groups_teach(log):
    """Four in five groups have no spread, over the second half of the run; a note when the reward rose past a half."""
    flat, learnt = log.zero_std, log.improves and last(log["reward"]) > log.floor + 0.5 * log.scale
    if len(flat) >= 5 and tail(flat, 0.5).mean() >= 0.8 and not log.solved:
        says = f"{per_cent(tail(flat, 0.5).mean())} of the groups have no spread in the second half of the run."
        return Seen(says, flat > 0.5, level=NOTE if learnt else None)


@rule
def tiny_spread_scaled(log):
    """Many rows have a spread under 3 % of the reward's range, and not 0, with advantages divided by it."""
    spread, reward = log["reward_std"], log["reward"]
    span = reward.quantile(0.95) - reward.quantile(0.05)  # without an outlier, which would make all others look tiny
    tiny = (spread > 1e-5) & (spread < 0.03 * span)
    if len(spread) >= 20 and tiny.mean() > 0.12 and log.settings.get("scale_rewards", "group") == "group":
        says = f"reward_std is above 0 and under 3 % of the reward's range in {per_cent(tiny.mean())} of the rows "
        return Seen(says + f"({num(spread[tiny].median())} in the middle).", tiny, "possible")


# ------------------------------------------------------------------------------------------- schedule, data, tools
@rule
def schedule_restarted(log):
    """The learning rate had decayed by a fifth or more and leaps back up."""
    lr = log["learning_rate"]
    before, peak = lr.shift(), lr.cummax().shift()
    jump = (lr > 1.25 * before) & (before < 0.8 * peak) & (lr > 0.5 * peak)
    if len(lr) >= 10 and jump.any():
        return Seen(f"the learning rate leaps from {num(before[jump].iloc[0])} to {num(lr[jump].iloc[0])}.", jump)


@rule
def repeated_data(log):
    """A stretch of six rows or more comes again later with the very same rewards and lengths."""
    names = [n for n in ("reward", "reward_std", "length", "length_max") if log.has(n)]
    if len(names) < 2 or "reward" not in names:
        return None
    rows = log.table[names].dropna().round(6)
    marks, seen, twice = list(map(tuple, rows.to_numpy())), {}, []
    for place in range(len(marks) - 5):
        six = tuple(marks[place : place + 6])  # a shorter stretch may agree by chance, where rewards are coarse
        if len(set(six)) >= 4 and place - seen.setdefault(six, place) >= 6:
            twice.append(place)
    if twice:
        now, then = rows.index[twice[0]], rows.index[seen[tuple(marks[twice[0] : twice[0] + 6])]]
        says = f"{len(twice) + 5} rows repeat what was logged before: {log.at(now)} is as {log.at(then)} was."
        return Seen(says, rows["reward"].iloc[twice[0] : twice[-1] + 6], "sure")


@rule
def step_goes_back(log):
    """The step number falls in the middle of the log."""
    back = log.labels.diff() < 0
    if log.unit == "step" and back.any():
        return Seen(f"after {log.at(back.idxmax() - 1)} comes {log.at(back.idxmax())}.", back, "sure")


@rule
def tools_unused(log):
    """Tools are on offer and (almost) never called in the last third."""
    calls = log["tool_calls"]
    if len(calls) >= 3 and tail(calls).mean() < 0.02:
        says = f"{num(first(calls))} calls per rollout at first, {num(tail(calls).mean())} in the last third."
        return Seen(says, calls < 0.02)


@rule
def tool_failures(log):
    """More than half of the tool calls fail in the last third; a fault when four in five do."""
    bad = log["tool_failures"]
    if len(bad) >= 3 and (late := tail(bad).mean()) > 0.5:
        level = FAULT if late > 0.8 else None
        return Seen(f"{per_cent(late)} of the calls fail in the last third.", bad > 0.5, level=level)


# ------------------------------------------------------------------------------------------------ smaller remarks
@rule
def no_learning(log):
    """Over a hundred rows the reward does not rise, and stays under 0.4 of a known ceiling."""
    reward = log["reward"]
    if len(reward) >= 100 and surprise(reward) < 1 and last(reward) < 0.4 and log.ceiling == 1:
        return Seen(f"the reward goes from {ends(reward)}.", reward)


@rule
def cap_too_tight(log):
    """A third or more of the completions is cut at first, and the run learns all the same."""
    cut = log.clipped
    if len(cut) >= 5 and (first(cut) > 0.3 or cut.mean() > 0.25):
        says = f"{per_cent(first(cut))} of the completions (or of the rows) are at the cap at first, "
        return Seen(says + f"{per_cent(last(cut))} at the end{_lengths(log)}.", cut > 0.3)


@rule
def loss_near_zero(log):
    """The loss is (almost) 0 while groups have spread."""
    loss, spread = log["loss"].abs(), log["reward_std"]
    if len(loss) and loss.median() < 0.002 and spread.median() > FLAT:
        return Seen(f"the loss is {num(loss.median())} in the middle and {num(loss.max())} at most.", loss, "sure")


@rule
def too_short(log):
    """Fewer than 30 rows, and no trend beyond the noise."""
    reward = log["reward"]
    if len(reward) < 30 and abs(surprise(reward)) < 3:
        spread = f"; the reward lies between {num(reward.min())} and {num(reward.max())}" if len(reward) else ""
        return Seen(f"{len(reward) or len(log)} rows{spread}.", log.labels, "sure")
