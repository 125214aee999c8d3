"""The list of an archive: its entries, and those that belong to some tables."""

from coffer.postgres.archive_list import ArchiveEntry, entries_of, oids_of_tables, parse_list

TEXT = """;
; Archive created at 2026-11-25 08:00:00 UTC
;     dbname: sales
;     TOC Entries: 20
;
; Selected TOC Entries:
;
6; 2615 16390 SCHEMA - app owner
;\tdepends on: 1
215; 1259 16400 TABLE app orders owner
;\tdepends on: 6
216; 1259 16410 TABLE app customers owner
;\tdepends on: 6
217; 1259 16420 SEQUENCE app orders_id_seq owner
;\tdepends on: 215 6
3400; 0 0 SEQUENCE OWNED BY app orders_id_seq owner
;\tdepends on: 217 215
3401; 0 0 SEQUENCE OWNED BY app other_seq owner
;\tdepends on: 217 216
3402; 0 0 COMMENT app TABLE orders owner
;\tdepends on: 215
3403; 0 0 ACL app TABLE customers owner
;\tdepends on: 216
3210; 2604 16430 DEFAULT app orders id owner
;\tdepends on: 217 215
3260; 2606 16440 CONSTRAINT app orders orders_pkey owner
;\tdepends on: 215
3404; 0 0 COMMENT app CONSTRAINT orders_pkey ON orders owner
;\tdepends on: 3260
3270; 2606 16450 FK CONSTRAINT app customers customers_order_fkey owner
;\tdepends on: 3260 215 216
3280; 1259 16460 INDEX app orders_at owner
;\tdepends on: 215
3290; 0 0 TABLE ATTACH app orders_2026 owner
;\tdepends on: 215 216
3300; 0 16400 ROW SECURITY app orders owner
;\tdepends on: 215
3310; 1259 16470 VIEW app seen owner
;\tdepends on: 215
3311; 0 0 PUBLICATION TABLE app some orders
;\tdepends on: 215
"""
ORDERS = {(1259, 16400), (1259, 16420), (2604, 16430), (2606, 16440), (1259, 16460)}


def test_entries_are_read_with_what_they_depend_on():
    """Number, catalog, object, text and dependencies of each line; comments of the head are none."""
    entries = parse_list(TEXT)
    assert len(entries) == 17
    assert ArchiveEntry(217, 1259, 16420, "SEQUENCE app orders_id_seq owner", frozenset({215, 6})) == entries[3]


def test_a_table_comes_with_what_belongs_to_it():
    """Its sequence, default, key, index, comments and row security; not what only refers to it."""
    chosen = entries_of(parse_list(TEXT), ORDERS)
    assert chosen == [215, 217, 3400, 3402, 3210, 3260, 3404, 3280, 3300]


def test_what_joins_two_tables_comes_with_both():
    """A partition is attached, and a foreign key made, where both its tables are chosen."""
    both = ORDERS | {(1259, 16410), (2606, 16450)}
    chosen = entries_of(parse_list(TEXT), both)
    assert {3290, 3270, 3403, 3401} <= set(chosen)
    assert {3310, 3311, 6} & set(chosen) == set()


def test_a_schema_comes_where_it_is_asked_for():
    """The target may lack it."""
    assert entries_of(parse_list(TEXT), ORDERS, ["app"])[0] == 6


def test_tables_are_told_by_their_catalog():
    """Indexes, sequences and views are in the same catalog, attached partitions in none."""
    assert oids_of_tables(parse_list(TEXT)) == {16400, 16410}
