"""One look for what takes longer than two seconds: a bar with the time left, in a terminal only, gone when done.

And `hush`, against noise that is not ours.
"""

import logging
import warnings
from functools import partial

from tqdm import tqdm  # comes with datasets, transformers and peft

# `disable=None`: nothing is drawn into a file, a pipe or a notebook's output.
bar = partial(tqdm, delay=2, disable=None, leave=False, dynamic_ncols=True)


def hush():
    """Keep other libraries' deprecations and hints out of what people read."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    # The trainer warns of weights that a checkpoint does not repeat, such as an output head that is the embedding.
    for name in ("bitsandbytes", "transformers.trainer"):
        logging.getLogger(name).setLevel(logging.ERROR)
