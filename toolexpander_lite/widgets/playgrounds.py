"""Two playgrounds: type rewards and see advantages; move a token and see what the objective does to it."""

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np

from ..base.colours import BLUE, GREEN, WITH, WITHOUT
from ..base.errors import SettingsError
from ..base.groups import SCALES, group_advantages
from ..method.rewards import quantise
from ..training.objective import kl_pull, plot_clip, push
from .show import Live

MOST = 64  # rewards that are read
BONUS = 0.01
BONUSES = {"no bonus": "none", "1.01 if right": "gated", "0.01 right or not": "ungated"}
EXAMPLE = "1 0 0 0 0;  1+ 1 1 0+ 0;  1+ 1 1 1+ 1;  0+ 0 0 0 0"


def read_rewards(text):
    """Rewards as people type them, "1 0 0; 1+ 1 0" -> (groups, rollouts) of rewards, and of who wrote examples ("+").

    Raises:
        SettingsError: something that is no finite number, groups of different sizes, fewer than two rewards in a group,
            or more than `MOST` in all.
    """
    groups = [part.replace(",", " ").split() for part in text.split(";") if part.strip()]
    sizes = sorted({len(group) for group in groups})
    if len(sizes) != 1 or sizes[0] < 2 or sum(map(len, groups)) > MOST:
        raise SettingsError(
            f"groups of {' and '.join(map(str, sizes)) or 'no'} rewards; type groups of one size, two rewards or more "
            f"in each and {MOST} in all, with a semicolon between groups: {EXAMPLE}"
        )
    try:
        rewards = np.array([[float(word.removesuffix("+")) for word in group] for group in groups])
    except ValueError as error:
        raise SettingsError(f"{error}; type numbers, with a + behind it where examples were written") from None
    if not (np.abs(rewards) <= 1e6).all():
        raise SettingsError("a reward is beyond a million or no number; type smaller ones")
    return rewards, np.array([[word.endswith("+") for word in group] for group in groups])


def paid_rewards(rewards, wrote, bonus="none"):
    """Task rewards and who wrote examples -> rewards with the bonus of 0.01: "gated" pays it with a right answer only.

    The gate is the paper's (section 4); rewards are rounded as the kit's are.
    """
    earns = wrote & ((rewards >= 1) if bonus == "gated" else bonus == "ungated")
    return np.vectorize(quantise, otypes=[float])(rewards + BONUS * earns)


def advantage_figure(text=EXAMPLE, scale="group", bonus="none"):
    """The static twin of `advantage_playground` -> figure, a panel per group; outlined is what no bonus would give."""
    rewards, wrote = read_rewards(text)
    paid = paid_rewards(rewards, wrote, bonus)
    size = rewards.shape[1]
    found, plain = (group_advantages(r.ravel(), size, scale).reshape(-1, size) for r in (paid, rewards))
    most = max(np.abs(found).max(), np.abs(plain).max(), 0.5) * 1.35
    columns = min(4, len(rewards))
    rows = -(-len(rewards) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(max(6, 3 * columns), 2.7 * rows), squeeze=False, sharey=True)
    for axis in axes.flat[len(rewards) :]:
        axis.axis("off")
    for axis, task, got, bars, without, wrote_one in zip(axes.flat, rewards, paid, found, plain, wrote):
        places = np.arange(size)
        colours = np.where(wrote_one, WITH, WITHOUT)
        axis.bar(places, bars, color=colours)
        if bonus != "none":
            axis.bar(places, without, fill=False, edgecolor="black", linewidth=1)
        for place, bar in zip(places, bars):
            axis.annotate(f"{bar:+.2f}" if bar else "0", (place, bar), ha="center", fontsize=8,
                          va="bottom" if bar >= 0 else "top", xytext=(0, 2 if bar >= 0 else -2),
                          textcoords="offset points")  # fmt: skip
        silent = np.abs(bars).max() < 1e-6
        kind = "all fail" if (task <= 0).all() else "all pass" if (task >= 1).all() else "mixed"
        axis.set(title=f"{kind}: silent" if silent else kind, ylim=(-most, most), xlabel="reward of each rollout")
        axis.set_xticks(places, [f"{r:.4g}" for r in got.round(3)], fontsize=8)
        axis.axhline(0, color="black", linewidth=0.8)
    for axis in axes[:, 0]:
        axis.set_ylabel("advantage")
    words = {"group": "divided by the group's deviation", "batch": "divided by the batch's", "none": "not divided"}
    orange = "; orange: wrote examples" if (np.abs(found[wrote]) > 1e-6).any() else ""
    outline = "; outline: without the bonus" if bonus != "none" else ""
    figure.suptitle(f"reward less the group's mean, {words[scale]}{orange}{outline}", fontsize=10)
    figure.tight_layout()
    return figure


def advantage_playground(text=EXAMPLE, scale="group", bonus="none"):
    """Type rewards (groups apart by ";", a "+" behind who wrote examples), choose scaling and bonus, see advantages."""
    typed = ipywidgets.Text(text, description="rewards", layout={"width": "420px"})
    narrow = {"button_width": "70px"}
    scaling = ipywidgets.ToggleButtons(options=SCALES, value=scale, description="scale by", style=narrow)
    paying = ipywidgets.Dropdown(options=BONUSES, value=bonus, description="examples")
    again = Live([[typed, paying], [scaling]], lambda: advantage_figure(typed.value, scaling.value, paying.value))
    for control in (typed, scaling, paying):
        control.observe(again, "value")


def clip_figure(epsilon=0.2, epsilon_high=0.2, ratio=1.0, advantage=1.0, beta=0.04, drift=1.0):
    """The static twin of `clip_playground` -> figure: the clipped term for a good and a bad token, and the KL term.

    `drift`: how far the policy that wrote the rollouts had gone from the base policy, p_old / p_base.
    """
    figure = plot_clip(epsilon, epsilon_high, ratio, advantage, kl=True)
    axis, here = figure.axes[-1], ratio * drift
    distances = np.logspace(-1.5, 1.5, 121)
    for corrected, label, colour in ((True, r"TRL 1.16: $\rho$ log(p / base)", BLUE),
                                     (False, "textbook: 1 - base / p", GREEN)):  # fmt: skip
        axis.plot(distances, kl_pull(distances, ratio, corrected), label=label, color=colour)
        axis.plot([here], [kl_pull(here, ratio, corrected)], "o", color="black", markersize=8 if corrected else 5)
    axis.axhline(0, color="black", linewidth=0.8)
    axis.set(xscale="log", ylim=(-4, 4), xlabel="p_new / p_base", ylabel="pull back per unit of beta",
             title=f"KL term: p is {here:.3g} times the base's")  # fmt: skip
    axis.legend(frameon=False, fontsize=8, loc="lower right")
    for panel in figure.axes:
        panel.title.set_fontsize(10)
    good, bad = (push(ratio, sign * advantage, epsilon, epsilon_high, beta, drift) for sign in (1, -1))
    figure.suptitle(f"push on log p in all: {good:+.3f} for the good token, {bad:+.3f} for the bad one", fontsize=10)
    figure.tight_layout()
    return figure


def clip_playground(epsilon=0.2, epsilon_high=0.2, ratio=1.3, advantage=1.0, beta=0.04, drift=1.0):
    """Drag ratio, advantage, range, KL weight and distance from the base policy."""

    def slider(value, low, high, words, step=0.01, kind=ipywidgets.FloatSlider):
        return kind(value, min=low, max=high, step=step, description=words, style={"description_width": "100px"})

    sliders = {
        "ratio": slider(ratio, 0.0, 2.0, "ratio"), "advantage": slider(advantage, 0.1, 2.0, "advantage ±"),
        "epsilon": slider(epsilon, 0.0, 0.5, "range down"), "epsilon_high": slider(epsilon_high, 0.0, 0.5, "range up"),
        "beta": slider(beta, 0.0, 0.5, "KL weight", 0.001),
        "drift": slider(drift, -1.0, 1.0, "p_old / p_base", 0.05, ipywidgets.FloatLogSlider),
    }  # fmt: skip
    both = list(sliders.values())
    again = Live([both[:2], both[2:4], both[4:]], lambda: clip_figure(**{name: s.value for name, s in sliders.items()}))
    for each in both:
        each.observe(again, "value")
