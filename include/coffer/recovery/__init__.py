"""What joins restore, source and verification: a cluster that is restored, started, and compared or read from.

Owns: scratch servers, drills of clusters, single tables out of them, loads of logical backups. Refuses: to touch a
server that it did not start itself, but for the one that a load names.
"""
