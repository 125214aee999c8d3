"""A mark for each frame that does not open."""

from coffer.ids import PackId
from coffer.repository.pack import ChunkLocation
from coffer.verification.damage import Damage

ONE, TWO = PackId(bytes(32)), PackId(bytes(range(32)))


def at(pack_id, position):
    return ChunkLocation(pack_id, position, 80, 100, 84, 1, 0)


def test_only_marked_frames_are_hit():
    """By pack and position."""
    damage = Damage()
    damage.mark(ONE, [5, 2])
    assert [2, 5] == [position for position in range(10) if damage.hits(at(ONE, position))]
    assert not damage.hits(at(TWO, 2))


def test_a_whole_pack_can_be_marked():
    """Its header does not open: no frame does, whatever is marked afterwards."""
    damage = Damage()
    damage.mark(ONE, None)
    damage.mark(ONE, [1])
    assert damage.hits(at(ONE, 1 << 18))


def test_no_positions_mark_nothing():
    """A pack may be damaged where no frame lies."""
    damage = Damage()
    damage.mark(ONE, [])
    assert not damage.hits(at(ONE, 0))
