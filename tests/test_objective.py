"""The clipped objective by hand and against torch."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from toolexpander_lite.training.objective import clipped_objective, is_clipped, plot_clip


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
