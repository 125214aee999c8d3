"""Assembling a snapshot, whatever its source: bundles, extents, blocks of the manifest, and the run around them.

Owns: what every backup does alike. Refuses: to know where the files come from.
"""
