"""Runs the notebooks from top to bottom, as a reader would, and keeps what they show."""

import asyncio
import base64
import os
import re
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from tqdm import tqdm

from ..base.errors import NotebookError
from ..base.progress import bar, hush

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
QUICK_SWITCH, LIVE_SWITCH = "TOOLEXPANDER_QUICK", "TOOLEXPANDER_LIVE"  # see `quick_mode` and `live_mode`
FOUND = "Found: "  # a printed line that begins so is repeated by `run_notebooks`


def quiet():
    """Keep progress bars of model loading, bitsandbytes' hints and other libraries' deprecations out of the output."""
    import datasets
    from transformers.utils import logging as transformers_logging

    hush()
    transformers_logging.disable_progress_bar()
    datasets.disable_progress_bars()


def describe_pictures():
    """From here on this notebook's pictures have the kit's colours, and an alt text for readers who do not see them."""
    import matplotlib.pyplot as plt
    from IPython import get_ipython
    from matplotlib.figure import Figure
    from matplotlib_inline.backend_inline import configure_inline_support

    from ..base.colours import SERIES

    if (shell := get_ipython()) is None:
        return
    plt.rcParams["axes.prop_cycle"] = plt.cycler(color=SERIES)
    configure_inline_support(shell, plt.get_backend())  # now, so that it does not replace what is set below
    png = shell.display_formatter.formatters["image/png"]
    draw = png.lookup_by_type(Figure)

    def with_alt(figure):
        picture = draw(figure)
        data, size = picture if isinstance(picture, tuple) else (picture, {})
        return data, {**(size or {}), "alt": alt_text(figure)}

    png.for_type(Figure, with_alt)


def alt_text(figure):
    """A matplotlib figure in words: of each panel its title, its axes and what is drawn, by label -> str."""
    panels = []
    for axes in figure.axes:
        if not axes.get_visible() or axes.get_label() == "<colorbar>":
            continue
        title = " ".join(axes.get_title(loc).strip() for loc in ("left", "center", "right")).split()
        across, up = axes.get_xlabel().strip(), axes.get_ylabel().strip()
        drawn = f"{up} over {across}" if across and up else up or across
        labels = [text for text in axes.get_legend_handles_labels()[1] if not text.startswith("_")]
        parts = [" ".join(title), drawn, f"showing {', '.join(labels)}" if labels else ""]
        panels.append("; ".join(part for part in parts if part))
    heading = figure._suptitle.get_text() if figure._suptitle else ""
    words = ". ".join(part for part in [heading, *dict.fromkeys(filter(None, panels))] if part)
    return " ".join(words.replace("$", "").split())[:600] or "a drawing without axis labels"


def quick_mode():
    """True when the notebooks are run small, as CI does."""
    return os.environ.get(QUICK_SWITCH) == "1"


def live_mode():
    """True where a reader runs the cells; False where `run_notebooks` does, unless it was asked for all of them."""
    return os.environ.get(LIVE_SWITCH) != "0"


def run_notebook(path, out, quick=False, timeout=10_800):
    """Execute one notebook in a fresh kernel -> (seconds, findings, figure paths).

    The executed copy goes to `out/notebooks`, its PNG pictures to `out/figures`; the notebook itself is not
    touched. `timeout`: seconds for one cell.

    Raises:
        NotebookError: a cell raised, or ran out of time. The copy is written all the same, with the traceback.
    """
    return asyncio.run(_execute(Path(path), Path(out), quick, timeout))


async def _execute(path, out, quick, timeout=10_800, threads=None, live=True):
    """`run_notebook`, for several at a time; `threads`: of its kernel."""
    notebook = nbformat.read(path, as_version=4)
    for folder in (copies := out / "notebooks", figures := out / "figures"):
        folder.mkdir(parents=True, exist_ok=True)
    client = NotebookClient(
        notebook, timeout=timeout, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}},
        on_cell_executed=lambda **_: cells.update(), extra_arguments=["--log-level=ERROR"],  # no hints of Jupyter's
    )  # fmt: skip
    cells = bar(desc=f"cells of {path.name}", total=sum(cell.cell_type == "code" for cell in notebook.cells))
    began = time.perf_counter()
    environment = {**os.environ, QUICK_SWITCH: "1" if quick else "0", "TOOLEXPANDER_OUT": str(out.resolve())}
    environment |= {LIVE_SWITCH: "1" if live else "0"} | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
    try:
        await client.async_execute(env=environment)
    except (CellExecutionError, DeadKernelError, TimeoutError) as error:
        text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()  # without the colours of a traceback
        raise NotebookError(f"{path.name} failed: {text[-1500:]}") from error
    finally:
        cells.close()
        without_controls(notebook)
        nbformat.write(notebook, copies / path.name)
    return time.perf_counter() - began, list(found_lines(notebook)), _save_figures(notebook, figures, path.stem)


def without_controls(notebook):
    """Drop widgets from a notebook that is saved: without their kernel they are an error; their picture stays."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if "outputs" in cell:
            cell.outputs = [o for o in cell.outputs if not any("widget-view" in kind for kind in o.get("data", {}))]


def _outputs(notebook):
    for cell in notebook.cells:
        yield from cell.get("outputs", [])


def found_lines(notebook):
    """What the cells of a notebook printed as findings -> iterator of lines, without `FOUND`."""
    for output in _outputs(notebook):
        for line in output.get("text", "").splitlines():
            if line.startswith(FOUND):
                yield line.removeprefix(FOUND)


def _save_figures(notebook, folder, stem):
    paths = []
    for output in _outputs(notebook):
        picture = output.get("data", {}).get("image/png")
        if picture:
            paths.append(folder / f"{stem}-{len(paths) + 1}.png")
            paths[-1].write_bytes(base64.b64decode(picture))
    return paths


def _peak_memory():
    """Largest resident size of a finished kernel, in GiB; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit / 2**30


def run_notebooks(out="out", quick=False, only=None, folder=NOTEBOOKS, live=False):
    """Execute the numbered notebooks, two at a time; prints times, findings and where everything is -> list of copies.

    The last is begun first, and the first failure ends it. On one core they run one by one.

    Args:
        out, quick: see `run_notebook`.
        only: beginning of the names to run, "01" say.
        live: also make the live runs of a real model (notebook 05, half an hour or more), not read the committed ones.

    Raises:
        NotebookError: see `run_notebook`; also when no notebook fits `only`.
    """
    paths = sorted(p for p in Path(folder).glob("[0-9]*.ipynb") if p.name.startswith(only or ""))
    if not paths:
        raise NotebookError(f"no notebook in {folder} begins with {only or 'a number'}")
    asyncio.run(_two_at_a_time(paths[::-1], Path(out), quick, live))
    if peak := _peak_memory():
        print(f"peak memory of a notebook: {peak:.1f} GiB")
    print(f"executed copies: {Path(out) / 'notebooks'}\nfigures:         {Path(out) / 'figures'}")
    return [Path(out) / "notebooks" / path.name for path in paths]


async def _two_at_a_time(paths, out, quick, live):
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    many = min(2, cores, len(paths))
    threads, free = max(1, cores // many) if many > 1 else None, asyncio.Semaphore(many)

    async def one(path):
        async with free:
            tqdm.write(f"{path.name} ...")
            seconds, findings, figures = await _execute(path, out, quick, threads=threads, live=live)
        tqdm.write("\n  ".join([f"{path.name}: {seconds:.0f} s; {len(figures)} figures", *findings]))

    try:
        async with asyncio.TaskGroup() as group:  # after a failure, or Ctrl-C, it leaves no kernel behind
            for path in paths:
                group.create_task(one(path))
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
