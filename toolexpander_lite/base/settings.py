"""Settings that are checked wherever they come in."""

from .errors import SettingsError

LARGEST_SEED = 2**32 - 1  # what numpy takes


def check_seed(seed):
    """Refuse what cannot seed a run.

    Raises:
        SettingsError: not a whole number from 0 to `LARGEST_SEED`.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= LARGEST_SEED:
        raise SettingsError(f"seed is {seed!r}; it must be a whole number from 0 to {LARGEST_SEED}")
