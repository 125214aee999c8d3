"""What PostgreSQL writes and how it is named: log positions, timelines, pages, manifests, paths of a data folder.

Owns: forms that a source, a restore and a verification need alike, and what Coffer keeps of a cluster. Refuses: to
speak to a server.
"""
