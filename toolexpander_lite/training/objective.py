"""The GRPO objective, term by term, in plain numpy: to compute by hand and to look at. Training uses TRL's own.

Per token, with ratio rho = p_new / p_old and advantage A (DeepSeekMath, arXiv 2402.03300, equation 3; the asymmetric
range is DAPO's, arXiv 2503.14476):

    min(rho A, clip(rho, 1 - epsilon, 1 + epsilon_high) A)  -  beta * KL(new || reference)
"""

import io

import matplotlib.pyplot as plt
import numpy as np

LARGEST = 2.3  # of the drawn scale, the same for every advantage, so that a larger one looks steeper
CLIP_COLOURS = {1.0: "#55a868", -1.0: "#c44e52"}  # of a positive and a negative advantage


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


def kl_estimate(logp, logp_reference):
    """The KL term of one sampled token, as GRPO estimates it: e^d - d - 1, d = logp_reference - logp -> float array.

    Never negative, and on average over tokens of the policy the exact KL(policy || reference).
    """
    difference = np.asarray(logp_reference, dtype=float) - np.asarray(logp, dtype=float)
    return np.exp(difference) - difference - 1


def kl_slope(logp, logp_reference):
    """What the KL term pulls with: the slope of `kl_estimate` in `logp`, 1 - e^d -> float array, below 1.

    Times beta, the force on the log-probability of a sampled token, down where positive. A token that the reference
    would hardly ever write is pulled down by no more than beta, however far the policy has gone; one that the policy
    has all but given up is pushed up without bound, in the rare case that it is sampled.
    """
    return 1 - np.exp(np.asarray(logp_reference, dtype=float) - np.asarray(logp, dtype=float))


def plot_clip(epsilon=0.2, epsilon_high=0.2, ratio=1.0, advantage=1.0):
    """The clipped term over the ratio, of a good and of a bad rollout, and where a token stands -> figure.

    `advantage`: the size of both, A = +advantage and A = -advantage.
    """
    ratios, size = np.linspace(0, 2, 401), advantage
    figure, axes = plt.subplots(1, 2, figsize=(11, 3.6), sharex=True)
    for axis, (sign, colour) in zip(axes, CLIP_COLOURS.items()):
        advantage = sign * size
        values = clipped_objective(ratios, advantage, epsilon, epsilon_high)
        flat = is_clipped(ratios, advantage, epsilon, epsilon_high)
        axis.plot(ratios, ratios * advantage, color="#aaaaaa", linestyle=":", label=r"not clipped: $\rho$ A")
        axis.plot(ratios, values, color=colour, linewidth=2.5, label="what is maximised")
        axis.fill_between(ratios, -LARGEST, LARGEST, where=flat, color="#dddddd", label="flat: no gradient")
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


def clip_explorer():
    """`plot_clip` with sliders for a notebook -> ipywidgets widget. Without a live kernel, `plot_clip` is its twin.

    It redraws a picture, not an output area: run by nbclient, an output area now and then waits for its timeout.
    """
    from ipywidgets import FloatSlider, Image, VBox

    options = {"step": 0.02, "continuous_update": False}
    sliders = [
        FloatSlider(0.2, min=0.02, max=0.9, description="epsilon", **options),
        FloatSlider(0.2, min=0.02, max=0.9, description="epsilon_high", **options),
        FloatSlider(1.0, min=0.0, max=2.0, description="ratio", **options),
        FloatSlider(1.0, min=0.1, max=1.5, description="|A|", **options),
    ]
    picture = Image(format="png")

    def draw(change=None):
        file = io.BytesIO()
        figure = plot_clip(*(slider.value for slider in sliders))
        figure.savefig(file, dpi=80)
        plt.close(figure)
        picture.value = file.getvalue()

    for slider in sliders:
        slider.observe(draw, "value")
    draw()
    return VBox([*sliders, picture])
