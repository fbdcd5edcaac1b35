"""The versions that the kit asks for, was tried with, and that its committed runs had."""

import json
import warnings
from types import ModuleType

import pandas as pd
import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from toolexpander_lite.base.runs import REPOSITORY

LINES = (REPOSITORY / "requirements.txt").read_text().splitlines()
REQUIREMENTS = [Requirement(line) for line in LINES if line and not line.startswith("#")]
LOCK = (REPOSITORY / "requirements.lock").read_text()
LOCKED = dict(line.split("==") for line in LOCK.splitlines() if not line.startswith("#"))
TRIED = REPOSITORY / "assets" / "benchmarks" / "versions.json"


def test_the_lock_file_holds_plain_versions_of_all_that_is_required():
    assert all(requirement.name in LOCKED for requirement in REQUIREMENTS)
    assert all(LOCKED[requirement.name] in requirement.specifier for requirement in REQUIREMENTS)
    assert all(str(Version(version)) == version and "+" not in version for version in LOCKED.values())


def test_the_lock_file_is_of_the_committed_runs():
    recorded = [
        json.loads(versions) if isinstance(versions, str) else dict(versions)
        for file in (REPOSITORY / "assets" / "runs").glob("*/config.parquet")
        for versions in pd.read_parquet(file, columns=["versions"])["versions"].dropna()
    ]
    assert len(recorded) > 800
    for versions in recorded:
        for name, version in versions.items():
            if name != "git_commit" and version:
                known = version.partition("+")[0]
                assert known == LOCKED[name] or (name == "transformers" and f"transformers {known}" in LOCK)


@pytest.mark.skipif(not TRIED.is_file(), reason="benchmarks/versions.py was not run")
def test_the_lower_bounds_are_versions_that_were_tried_and_passed():
    tried = json.loads(TRIED.read_text())["environments"]
    assert "newest" in tried  # the others where they were run to the end; the file says so
    for requirement in REQUIREMENTS if "oldest" in tried else ():
        if requirement.name != "torch":  # the same in all environments, as the file says
            (bound,) = (Version(s.version) for s in requirement.specifier if s.operator == ">=")
            installed = Version(tried["oldest"]["versions"][requirement.name])
            assert installed.release[: len(bound.release)] == bound.release, requirement.name
    for found in tried.values():
        assert found["tests"]["failures"] == [] and found["tests"]["passed"] > 300
        assert found["notebook_01_quick"]["ok"]


def test_a_deprecated_call_of_our_own_is_an_error_and_one_of_others_is_not():
    def call(module):
        code = "import warnings\nwarnings.warn('goes away', FutureWarning)"
        exec(compile(code, "x.py", "exec"), ModuleType(module).__dict__)

    call("transformers.models")
    with pytest.raises(FutureWarning, match="goes away"):
        call("toolexpander_lite.models.policy")
    assert warnings.filters
