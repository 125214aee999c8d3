"""Read again what was stored, and say what was proved.

*Check* follows every reference of a repository; *verify* reads and authenticates every stored byte as well; *compare*
lays two file trees beside each other. Nothing here repairs or writes.
"""

from coffer.verification.check import check
from coffer.verification.findings import CheckReport, Finding, Severity, VerifyReport
from coffer.verification.verify import verify

__all__ = ["CheckReport", "Finding", "Severity", "VerifyReport", "check", "verify"]
