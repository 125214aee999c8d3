"""Identifiers: fresh ones differ, and a pack's name follows from its id."""

import re

from coffer.ids import REPOSITORY_ID_BYTES, new_repository_id, new_snapshot_id, pack_name


def test_fresh_ids_have_their_length_and_differ():
    """Repository ids are 16 random bytes, snapshot ids 16 hex digits; a thousand of each are all different."""
    repositories = {new_repository_id() for _ in range(1000)}
    assert {REPOSITORY_ID_BYTES} == {len(found) for found in repositories}
    snapshots = {new_snapshot_id() for _ in range(1000)}
    assert all(re.fullmatch("[0-9a-f]{16}", found) for found in snapshots)
    assert (1000, 1000) == (len(repositories), len(snapshots))


def test_a_pack_lies_in_the_folder_of_its_first_byte():
    """packs/<two digits>/<all digits>, so that no folder has too many."""
    assert f"packs/ab/ab{'0' * 62}" == pack_name(b"\xab" + bytes(31))
