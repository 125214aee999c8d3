"""The requirement files: each line has its reason, each pin is exact, and the installation is what they say."""

import importlib.metadata
import re
from pathlib import Path

import pytest

import coffer
import coffer_airflow
from tests.architecture.sources import ROOT

PIN = re.compile(r"^([a-z0-9][a-z0-9.-]*)==([\w.!+-]+)(?: ; .+)?$")


def lines_of(name):
    """The lines of a requirement file that ask for a package."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.strip() and not line.lstrip().startswith(("#", "-"))]


def pins_of(name):
    """Package -> version of a pinned file."""
    return dict(PIN.match(line).groups() for line in lines_of(name))


@pytest.mark.parametrize("name", ["requirements.in", "requirements-dev.in"])
def test_every_requirement_has_its_reason(name):
    """Behind each package stands why it is there."""
    assert [line for line in lines_of(name) if not re.search(r"\S\s+# .{12,}", line)] == []


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_every_pin_is_exact_and_names_no_index(name):
    """Each line is name==version, from whatever index the user has."""
    assert [line for line in lines_of(name) if not PIN.match(line)] == []
    assert re.findall(r"https?://|--(?:extra-)?index-url|--find-links", (ROOT / name).read_text(encoding="utf-8")) == []


def test_what_is_asked_for_is_pinned():
    """Each package of an .in file is in its .txt file; a hand-made change of one is noticed."""
    for name in ("requirements", "requirements-dev"):
        asked = {re.match(r"[\w-]+", line).group().lower() for line in lines_of(f"{name}.in")}
        assert asked - set(pins_of(f"{name}.txt")) == set()


def test_both_files_pin_the_same_versions():
    """A package that both files need has one version."""
    run, dev = pins_of("requirements.txt"), pins_of("requirements-dev.txt")
    assert {name: (run[name], dev[name]) for name in run.keys() & dev.keys() if run[name] != dev[name]} == {}


def test_the_installation_has_the_pinned_versions():
    """What is tested is what is pinned."""
    wanted = pins_of("requirements.txt") | pins_of("requirements-dev.txt")
    installed = {
        dist.metadata["Name"].lower().replace("_", "-"): dist.version for dist in importlib.metadata.distributions()
    }
    different = {
        name: (version, installed[name]) for name, version in wanted.items() if installed.get(name, version) != version
    }
    assert different == {}


def test_the_celery_that_breaks_the_provider_is_kept_out():
    """Celery 5.7.0 has no celery.backends.database.retry, which the Celery provider imports."""
    major, minor = (int(part) for part in pins_of("requirements.txt")["celery"].split(".")[:2])
    assert (5, 5) <= (major, minor) < (5, 7)


def test_the_project_is_installed_by_plain_paths():
    """An editable install is one .pth file with two folders: no import hook slows the start of `coffer`."""
    folder = Path(importlib.metadata.distribution("coffer").locate_file(""))
    files = [file for file in importlib.metadata.files("coffer") if file.suffix == ".pth"]
    assert 1 == len(files)
    paths = (folder / files[0]).read_text(encoding="utf-8").split()
    assert [str(ROOT / "include"), str(ROOT / "plugins")] == paths
    assert [Path(module.__file__).parent.parent for module in (coffer, coffer_airflow)] == [
        Path(path) for path in paths
    ]


def test_the_version_is_the_packages_own():
    """The installed version is coffer.__version__; there is no second place to forget."""
    assert coffer.__version__ == importlib.metadata.version("coffer")
