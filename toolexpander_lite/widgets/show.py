"""Controls above, a picture below: what every widget of this room is shown as.

The picture is ordinary output of the cell, which controls draw anew. So it stays in the saved notebook, with an alt
text, and GitHub, nbviewer and HTML export show it; the controls are there only while a kernel runs.
"""

import io

import ipywidgets
import matplotlib.pyplot as plt
from IPython.display import display

from ..base.errors import KitError
from ..studies.notebooks import alt_text

DOTS_PER_INCH = 100


class Controls(ipywidgets.VBox):
    """A row of controls; where no widget can be shown, one sentence."""

    def _repr_mimebundle_(self, **kwargs):
        return super()._repr_mimebundle_(**kwargs) | {"text/plain": "Controls, in a notebook that is run."}


def bundle(drawn):
    """A matplotlib figure (it is closed) or HTML text -> (data by MIME type, metadata), as `display` takes them."""
    if isinstance(drawn, str):
        return {"text/html": drawn, "text/plain": "a table, in HTML"}, {}
    file, words = io.BytesIO(), alt_text(drawn)
    drawn.savefig(file, format="png", dpi=DOTS_PER_INCH, bbox_inches="tight")
    plt.close(drawn)
    return {"image/png": file.getvalue(), "text/plain": words}, {"image/png": {"alt": words}}


class Live:
    """Shows `rows` of controls and what `draw()` gives, once; calling it draws again.

    A `KitError` in drawing, for something that cannot be drawn, is shown in one line in the picture's place.
    """

    def __init__(self, rows, draw):
        self.draw = draw
        display(Controls([ipywidgets.HBox(row, layout={"flex_flow": "row wrap"}) for row in rows]))
        data, metadata = self._drawn()
        self.handle = display(data, raw=True, metadata=metadata, display_id=True)

    def _drawn(self):
        try:
            return bundle(self.draw())
        except KitError as error:
            return {"text/plain": str(error)}, {}

    def __call__(self, *_):
        data, metadata = self._drawn()
        self.handle.update(data, raw=True, metadata=metadata)
