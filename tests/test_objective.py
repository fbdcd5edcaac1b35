"""The objective by hand, against torch, and against the exact KL."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from toolexpander_lite.training.objective import (
    clip_explorer,
    clipped_objective,
    is_clipped,
    kl_estimate,
    kl_slope,
    plot_clip,
)


@pytest.mark.parametrize(
    "ratio, advantage, value, flat",
    [(1.0, 1, 1.0, False), (1.5, 1, 1.2, True), (1.5, -1, -1.5, False), (0.5, 1, 0.5, False), (0.5, -1, -0.8, True),
     (1.2, 2, 2.4, False), (1.25, 0, 0.0, False)],
)  # fmt: skip
def test_clipped_term_by_hand(ratio, advantage, value, flat):
    assert clipped_objective(ratio, advantage) == pytest.approx(value)
    assert is_clipped(ratio, advantage) == flat


def test_clip_higher_frees_good_tokens_only():
    assert is_clipped(1.25, 1) and not is_clipped(1.25, 1, epsilon_high=0.28)
    assert is_clipped(0.75, -1) and is_clipped(0.75, -1, epsilon_high=0.28)


def test_flat_means_no_gradient():
    ratios = torch.linspace(0.02, 1.98, 99, dtype=torch.float64, requires_grad=True)
    for advantage in (1.5, -0.7):
        loss = torch.min(ratios * advantage, ratios.clamp(0.8, 1.28) * advantage)
        (slope,) = torch.autograd.grad(loss.sum(), ratios)
        numbers = ratios.detach().numpy()
        assert np.allclose(loss.detach().numpy(), clipped_objective(numbers, advantage, 0.2, 0.28))
        assert ((slope == 0).numpy() == is_clipped(numbers, advantage, 0.2, 0.28)).all()


def test_kl_estimate_is_right_on_average_and_never_negative():
    policy, reference = np.array([0.7, 0.2, 0.1]), np.array([0.3, 0.3, 0.4])
    exact = (policy * np.log(policy / reference)).sum()
    estimates = kl_estimate(np.log(policy), np.log(reference))
    assert (policy * estimates).sum() == pytest.approx(exact)
    assert (estimates >= 0).all() and kl_estimate(-1.0, -1.0) == 0


def test_pull_of_the_kl_term_is_the_slope_of_its_estimate_and_saturates():
    logp = torch.log(torch.tensor([0.001, 0.01, 0.1, 0.9, 1e-5], dtype=torch.float64)).requires_grad_()
    reference = np.log(0.001)
    estimate = torch.exp(reference - logp) - (reference - logp) - 1
    (slope,) = torch.autograd.grad(estimate.sum(), logp)
    numbers = logp.detach().numpy()
    assert np.allclose(kl_slope(numbers, reference), slope.numpy())
    assert kl_slope(numbers, reference) == pytest.approx([0, 0.9, 0.99, 1 - 1 / 900, -99])
    assert np.diff(kl_estimate(numbers, reference)[:4]).min() > 1, "the penalty itself goes on growing"


def test_pictures_are_drawn():
    figure = plot_clip(0.2, 0.28, 1.25)
    notes = [t.get_text() for axis in figure.axes for t in axis.texts]
    assert notes == ["$\\rho$ = 1.25\nslope +1", "$\\rho$ = 1.25\nslope -1"]
    plt.close(figure)
    figure = plot_clip(0.2, 0.28, 1.25, advantage=0.5)
    (good,), (bad,) = ([line.get_ydata() for line in axis.lines if line.get_marker() == "o"] for axis in figure.axes)
    assert good == pytest.approx([0.625]) and bad == pytest.approx([-0.625])
    titles = [axis.get_title().split(":")[0] for axis in figure.axes]
    assert titles == ["good rollout, A = +0.5", "bad rollout, A = -0.5"]
    plt.close(figure)


def test_moving_a_slider_redraws_the_picture():
    others = plt.get_fignums()
    *sliders, picture = clip_explorer().children
    assert [s.description for s in sliders] == ["epsilon", "epsilon_high", "ratio", "|A|"]
    before = bytes(picture.value)
    assert before.startswith(b"\x89PNG")
    for slider in sliders[1], sliders[3]:
        slider.value = 0.5
        assert bytes(picture.value).startswith(b"\x89PNG") and bytes(picture.value) != before
        before = bytes(picture.value)
    assert plt.get_fignums() == others, "no figure is left open"
