"""What holds for every test: no network, no settings of the developer, repeatable examples, and a budget for skips."""

import ipaddress
import os
import socket

import hypothesis
import pytest

from tests.harness.airflow_home import use_temporary_airflow
from tests.harness.postgres import Installation, installations
from tests.harness.skips import count_unexcused

# A skip is not a pass: above this number the build fails. [count] Tests that are skipped because the user is not root
# come on top (their reason begins with 'only root').
SKIPS_AGREED = 0

for name in [name for name in os.environ if name.startswith("COFFER_")]:
    del os.environ[name]  # a developer's own repository must not be what the tests write to

use_temporary_airflow()  # before any test imports Airflow, which would else write to the developer's ~/airflow

# derandomize: one commit gives one result; the fuzz tests of `make test-full` draw anew and print their seed.
hypothesis.settings.register_profile("house", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("house")

_connect = socket.socket.connect


def _connect_on_loopback_only(self, address):
    """Refuse to leave the machine: a test that needs the network is not a test of ours."""
    is_ip = self.family in (socket.AF_INET, socket.AF_INET6)
    if is_ip and address[0] != "localhost" and not ipaddress.ip_address(address[0].split("%")[0]).is_loopback:
        self.close()
        raise AssertionError(f"a test connects to {address}")
    return _connect(self, address)


socket.socket.connect = _connect_on_loopback_only


def pytest_collection_modifyitems(items):
    """Let `make test` run what needs a PostgreSQL server on one version, and `make test-full` on all that are here."""
    newest = installations()[-1]
    for item in items:
        callspec = getattr(item, "callspec", None)
        versions = [
            value for value in (callspec.params.values() if callspec else ()) if isinstance(value, Installation)
        ]
        if any(version != newest for version in versions):
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session, exitstatus):
    """In the build, fail when more tests were skipped than agreed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(session.config, "workerinput") or not os.environ.get("CI"):
        return
    found = [report.longrepr for report in reporter.stats.get("skipped", [])]
    skipped = count_unexcused(found, is_root=os.geteuid() == 0)
    if skipped > SKIPS_AGREED and exitstatus == pytest.ExitCode.OK:
        reporter.write_line(f"{skipped} tests were skipped, {SKIPS_AGREED} are agreed (tests/conftest.py)", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
