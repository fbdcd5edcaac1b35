"""One look for what takes longer than two seconds: a bar with the time left, in a terminal only, gone when done."""

from functools import partial

from tqdm import tqdm  # comes with datasets, transformers and peft

# `disable=None`: nothing is drawn into a file, a pipe or a notebook's output.
bar = partial(tqdm, delay=2, disable=None, leave=False, dynamic_ncols=True)
