"""Pictures that colour-blind readers can read: what one picture tells apart by colour stays apart, texts have contrast.

Red-green blindness is simulated as by Machado, Oliveira and Fernandes (2009), their matrices at severity 1.
"""

import itertools
import re

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.text import Text

from toolexpander_lite.base.colours import FILLS, SERIES
from toolexpander_lite.base.runs import REPOSITORY
from toolexpander_lite.models.memory import plot_memory
from toolexpander_lite.studies import run_figures, study_figures
from toolexpander_lite.studies.front_page import plot_curves, plot_distillation, plot_idea
from toolexpander_lite.studies.run_figures import (
    DASHES,
    LOOKS,
    REASON_LOOKS,
    STATE_COLOURS,
    ink,
    plot_groups,
    plot_reasons,
)
from toolexpander_lite.studies.study_figures import VERDICT_COLOURS
from toolexpander_lite.training.objective import plot_clip
from toolexpander_lite.widgets.playgrounds import advantage_figure, clip_figure
from toolexpander_lite.widgets.pool_stepper import pool_figure

RUNS = REPOSITORY / "assets" / "runs"
EYES = {
    "neither": np.eye(3),
    "protanopia": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                            [-0.003882, -0.048116, 1.051998]]),
    "deuteranopia": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                              [-0.011820, 0.042940, 0.968881]]),
}  # fmt: skip
TO_XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
                   [0.0193339, 0.1191920, 0.9503041]])  # of linear sRGB, with white D65  # fmt: skip


def linear(colour):
    values = np.array(to_rgb(colour))
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(colour, eyes="neither"):
    """CIELAB of a colour as these eyes see it -> array of L*, a*, b*."""
    xyz = TO_XYZ @ np.clip(EYES[eyes] @ linear(colour), 0, 1) / TO_XYZ.sum(1)
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def too_close(colours, least=20):
    """Pairs of different colours that some eyes see less than `least` apart -> list of (one, other, eyes, distance)."""
    pairs = itertools.combinations(sorted({to_hex(colour) for colour in colours}), 2)
    found = ((*pair, eyes, np.linalg.norm(lab(pair[0], eyes) - lab(pair[1], eyes))) for pair in pairs for eyes in EYES)
    return [(*names, round(float(distance), 1)) for *names, distance in found if distance < least]


def contrast(one, other):
    """Contrast of WCAG 2.1, 1 to 21."""
    low, high = sorted(TO_XYZ[1] @ linear(colour) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def test_the_simulation_gives_the_values_of_others():
    assert lab("#ff0000") == pytest.approx([53.24, 80.09, 67.20], abs=0.02), "Lindbloom's calculator"
    assert lab("#0000ff") == pytest.approx([32.30, 79.19, -107.86], abs=0.02)
    # `cspace_convert` of colorspacious 1.1.2 to "sRGB1+CVD" at severity 100, clipped, and on to "CIELab"
    assert lab("#D55E00", "deuteranopia") == pytest.approx([57.99, -5.53, 62.36], abs=0.05)
    assert lab("#009E73", "protanopia") == pytest.approx([60.37, -2.22, 18.71], abs=0.05)
    for matrix in EYES.values():
        assert matrix.sum(1) == pytest.approx([1, 1, 1], abs=1e-5), "white stays white"
    (pair,) = too_close(["#c44e52", "#55a868"])  # red and green as seaborn has them
    assert pair == ("#55a868", "#c44e52", "deuteranopia", 9.6)
    assert contrast("white", "black") == pytest.approx(21)
    assert contrast("white", "#777777") == pytest.approx(4.48, abs=0.01), "WebAIM's checker"


SCALES = {
    "states": [*STATE_COLOURS.values()], "verdicts": [*VERDICT_COLOURS.values(), "white"], "series": SERIES,
    "fills": FILLS,
}  # fmt: skip


@pytest.mark.parametrize("name", SCALES)
def test_scales_stay_apart(name):
    assert not too_close(SCALES[name])


@pytest.mark.parametrize("name", ["states", "verdicts"])
def test_states_and_verdicts_stay_apart_in_grey_print(name):
    lightness = sorted(lab(colour)[0] for colour in set(SCALES[name]))
    assert np.diff(lightness).min() > 5, "just to be seen side by side: 2"


def test_one_look_for_one_thing():
    alike = [{state for state, c in STATE_COLOURS.items() if c == colour} for colour in set(STATE_COLOURS.values())]
    assert [group for group in alike if len(group) > 1] == [{"plain", "failed"}], "of different pools"
    assert len(set(LOOKS)) == len(DASHES) * len(SERIES) == 25


FIGURES = {
    "idea": plot_idea,
    "distillation": plot_distillation,
    "curves": lambda: plot_curves(RUNS / "nano-ablation"),
    "stall": lambda: study_figures.plot_stall(study_figures.find_runs(RUNS / "nano-baseline")["grpo-lr1e-3-600steps"]),
    "groups": lambda: plot_groups({"a": study_figures.find_runs(RUNS / "nano-baseline")["grpo-lr1e-3-600steps"][:1]}),
    "panels": lambda: study_figures._hard_sampling_figures(RUNS / "nano-hard-sampling")["readme-hard-sampling"],
    "map": lambda: study_figures.NANO_WORLD["nano-map"](RUNS / "nano-map")["readme-map"],
    "search": lambda: study_figures.plot_search(RUNS / "nano-hard-search"),
    "together": lambda: study_figures._together_figures(RUNS / "nano-ablation")["readme-together"],
    "reasons": lambda: plot_reasons({"a": dict.fromkeys([*REASON_LOOKS, "unheard of"], 1)}, "all of them"),
    "memory": lambda: plot_memory(["0.5B", "7B"], {"LoRA": {}}, {"T4": 14.7}),
    "clip": plot_clip,
    "KL": clip_figure,
    "advantages": lambda: advantage_figure(bonus="gated"),
    "pool": lambda: pool_figure(6),
}


@pytest.fixture(scope="module", params=FIGURES)
def figure(request):
    figure = FIGURES[request.param]()
    figure.canvas.draw()
    yield figure
    plt.close(figure)


def test_pictures_tell_nothing_apart_by_colours_that_look_alike(figure):
    shown = {"#000000"}
    for axis in figure.axes:
        edges = [patch.get_edgecolor() for patch in axis.patches if not patch.get_fill()]
        filled = [patch.get_facecolor() for patch in axis.patches if patch.get_fill()]
        areas = [drawn for drawn in axis.collections if drawn.get_array() is None]  # no colour map
        filled += [colour for area in areas for colour in area.get_facecolor()]
        shown |= {to_hex(colour) for colour in [*edges, *filled, *(line.get_color() for line in axis.lines)]}
    assert not too_close(shown)


def test_texts_of_pictures_can_be_read_on_what_lies_behind_them(figure):
    texts = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]
    inks = [t.get_color() for t in texts]
    for text in texts:
        text.set_color("none")
    figure.canvas.draw()
    behind = np.asarray(figure.canvas.buffer_rgba())[..., :3] / 255
    for text, colour in zip(texts, inks):
        text.set_color(colour)
        (left, low), (right, high) = Text.get_window_extent(text).get_points().astype(int)
        patch = behind[max(0, len(behind) - high) : len(behind) - low, max(0, left) : right].reshape(-1, 3)
        if len(patch):
            assert contrast(colour, np.median(patch, 0)) >= 4.5, text.get_text()


def test_ink_is_what_can_be_read():
    assert (ink("#ffffff"), ink("#000000"), ink("#0072B2"), ink("#D55E00")) == ("black", "white", "white", "black")
    for red, green, blue in itertools.product(range(0, 256, 17), repeat=3):
        colour = f"#{red:02x}{green:02x}{blue:02x}"
        assert contrast(ink(colour), colour) >= 4.5, colour


def test_labels_at_curves_do_not_lie_on_one_another():
    axis = plt.figure(figsize=(8, 3)).subplots()
    for number, end in enumerate((0.0, 0.01, 0.98, 0.99, 1.0)):
        axis.plot([0, 1, 2], [0.5, end, np.nan], label=f"curve {number}\nin words")
    axis.plot([0, 1], [0, 1])
    axis.set_ylim(-0.03, 1.05)
    run_figures.name_curves(axis)
    axis.figure.canvas.draw()
    boxes = [Text.get_window_extent(text) for text in axis.texts]
    assert [text.xy[1] for text in axis.texts] == [0.0, 0.01, 0.98, 0.99, 1.0], "where each curve ends"
    below = sorted(range(5), key=lambda n: boxes[n].y0)
    assert below == [0, 1, 2, 3, 4]
    assert all(boxes[n].y1 <= boxes[n + 1].y0 + 1 for n in below[:-1]) and boxes[4].y1 <= axis.bbox.y1 + 2
    plt.close(axis.figure)


def test_colours_are_named_in_one_place():
    typed = re.compile(r"""#[0-9a-fA-F]{6}\b|["']tab:\w+""")
    code = {path: path.read_text(encoding="utf-8") for path in (REPOSITORY / "toolexpander_lite").rglob("*.py")}
    for path in (REPOSITORY / "notebooks").glob("*.ipynb"):
        cells = nbformat.read(path, as_version=4).cells
        code[path] = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    assert [path.name for path, text in code.items() if typed.search(text)] == ["colours.py"]
