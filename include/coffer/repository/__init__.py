"""The repository: everything that is stored for backups, and the rules by which it is written and read.

*Pack*: one stored object of many sealed chunks. *Index*: chunk id to pack, offset, lengths; can be rebuilt from the
packs. *Manifest*: the entries of one snapshot, in blocks of columns, themselves chunks. *Snapshot*: the signed root of
one backup; its existence is the commit. *Lease*: a writer at work. Order of writing: packs, index segment, manifest,
snapshot.
"""
