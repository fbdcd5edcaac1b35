import os

# Before torch: two threads per test are faster than the many that a big machine would take for a tiny model.
os.environ.setdefault("OMP_NUM_THREADS", "2")

import matplotlib

matplotlib.use("Agg")
