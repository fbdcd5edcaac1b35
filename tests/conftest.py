import os

# Before torch: two threads per test are faster than the many that a big machine would take for a tiny model.
os.environ.setdefault("OMP_NUM_THREADS", "2")

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test reaches the Hub; without this, a missing model costs its retries

import matplotlib
import pytest
from hypothesis import HealthCheck, settings

matplotlib.use("Agg")

settings.register_profile(  # the machine may be busy
    "no deadlines", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("no deadlines")


@pytest.fixture
def amx(monkeypatch):
    """A CPU that computes in bfloat16, whatever this one does."""
    from toolexpander_lite.models.hardware import Hardware  # here: it imports torch

    here = Hardware("cpu", "CPU", 16.0, fast_bfloat16=True)
    monkeypatch.setattr("toolexpander_lite.models.hardware.describe_hardware", lambda: here)
