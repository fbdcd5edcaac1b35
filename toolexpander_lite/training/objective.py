"""The clipped term of the GRPO objective, in plain numpy: to compute by hand and to look at. Training uses TRL's own.

Per token, with ratio rho = p_new / p_old and advantage A (DeepSeekMath, arXiv 2402.03300, equation 3; the asymmetric
range is DAPO's, arXiv 2503.14476):

    min(rho A, clip(rho, 1 - epsilon, 1 + epsilon_high) A)  -  beta * KL(new || reference)

Of the KL term see notebook 01: by default TRL 1.16 multiplies GRPO's estimate by rho (`use_bias_correction_kl`).
"""

import matplotlib.pyplot as plt
import numpy as np

from ..base.colours import DARK, LIGHT, RIGHT, WRONG

LARGEST = 2.3  # of the drawn scale, the same for every advantage, so that a larger one looks steeper
CLIP_COLOURS = {1.0: RIGHT, -1.0: WRONG}  # of a positive and a negative advantage


def clipped_objective(ratio, advantage, epsilon=0.2, epsilon_high=0.2):
    """The clipped term -> float array, of the shape that `ratio` and `advantage` broadcast to."""
    ratio = np.asarray(ratio, dtype=float)
    return np.minimum(ratio * advantage, np.clip(ratio, 1 - epsilon, 1 + epsilon_high) * advantage)


def is_clipped(ratio, advantage, epsilon=0.2, epsilon_high=0.2):
    """Where the term is flat, so that the token has no gradient -> bool array.

    A good token (A > 0) above 1 + epsilon_high, or a bad one below 1 - epsilon: moved far enough already.
    """
    ratio, advantage = np.asarray(ratio, dtype=float), np.asarray(advantage, dtype=float)
    return ((advantage > 0) & (ratio > 1 + epsilon_high)) | ((advantage < 0) & (ratio < 1 - epsilon))


def kl_pull(distance, ratio=1.0, corrected=True):
    """How strongly the KL term, of weight 1, pulls log p_new back -> float array; `distance` is p_new / p_base.

    The gradient of e^d - d - 1 with d = log(p_base / p_new), which is 1 - 1/distance; `corrected`, of that times the
    ratio, as TRL 1.16 has it by default: ratio * log(distance).
    """
    distance = np.asarray(distance, dtype=float)
    return ratio * np.log(distance) if corrected else 1 - 1 / distance


def push(ratio, advantage, epsilon=0.2, epsilon_high=0.2, beta=0.0, drift=1.0):
    """Gradient of the whole objective of a token in log p_new, with TRL's KL term -> float.

    `drift`: p_old / p_base. A ratio of 0 counts as one of a thousandth.
    """
    ratio = max(ratio, 1e-3)
    free = 0.0 if is_clipped(ratio, advantage, epsilon, epsilon_high) else ratio * advantage
    return float(free - beta * kl_pull(ratio * drift, ratio))


def plot_clip(epsilon=0.2, epsilon_high=0.2, ratio=1.0, advantage=1.0, kl=False):
    """The clipped term over the ratio, of a good and of a bad rollout, and where a token stands -> figure.

    `advantage`: the size of both, A = +advantage and A = -advantage. `kl`: leave room for a third picture.
    """
    ratios, size = np.linspace(0, 2, 401), advantage
    figure, axes = plt.subplots(1, 2 + kl, figsize=(11, 3.4 if kl else 3.6))
    for axis, (sign, colour) in zip(axes, CLIP_COLOURS.items()):
        advantage = sign * size
        values = clipped_objective(ratios, advantage, epsilon, epsilon_high)
        flat = is_clipped(ratios, advantage, epsilon, epsilon_high)
        axis.plot(ratios, ratios * advantage, color=DARK, linestyle=":", label=r"not clipped: $\rho$ A")
        axis.plot(ratios, values, color=colour, linewidth=2.5, label="what is maximised")
        axis.fill_between(ratios, -LARGEST, LARGEST, where=flat, color=LIGHT, label="flat: no gradient")
        axis.axvline(1, color="black", linewidth=0.8)
        here = float(clipped_objective(ratio, advantage, epsilon, epsilon_high))
        axis.plot([ratio], [here], "o", color="black", markersize=8)
        stuck = bool(is_clipped(ratio, advantage, epsilon, epsilon_high))
        axis.annotate(f"$\\rho$ = {ratio:.2f}\n{'no gradient' if stuck else f'slope {advantage:+.3g}'}", (ratio, here),
                      textcoords="offset points", xytext=(10, -30 if advantage > 0 else 14), fontsize=9)  # fmt: skip
        aim = "good rollout, A = {:+.3g}: make it likelier" if sign > 0 else "bad rollout, A = {:+.3g}: make it rarer"
        title, limits = aim.format(advantage), (-0.1, LARGEST) if sign > 0 else (-LARGEST, 0.1)
        axis.set(title=title, xlabel=r"ratio $\rho$ = p_new / p_old", ylim=limits)
    axes[0].legend(frameon=False, fontsize=8, loc="upper left")
    figure.tight_layout()
    return figure
