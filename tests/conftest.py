import os

# Before torch: two threads per test are faster than the many that a big machine would take for a tiny model.
os.environ.setdefault("OMP_NUM_THREADS", "2")

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test reaches the Hub; without this, a missing model costs its retries

import matplotlib
from hypothesis import settings

matplotlib.use("Agg")

settings.register_profile("no deadlines", deadline=None)  # the machine may be busy
settings.load_profile("no deadlines")
