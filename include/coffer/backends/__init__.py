"""Stores: the contract (`base`), the places objects live (`local`, `memory`), and wrappers around any of them.

Wrappers nest from the store outwards: ``MeteringBackend(RetryBackend(ThrottledBackend(store)))``. Throttle is innermost
as bytes that are sent again must be paced again; metering is outermost, and counts what the engine asked for.
"""

from __future__ import annotations

from coffer.backends.base import Backend, Buffer, ObjectInfo, validate_name, validate_prefix
from coffer.backends.factory import open_backend

__all__ = ["Backend", "Buffer", "ObjectInfo", "open_backend", "validate_name", "validate_prefix"]
