"""Back up PostgreSQL clusters over the replication protocol.

`connection` reaches a cluster, `failures` says what went wrong, `replication` speaks the protocol's small commands,
`basebackup` streams a base backup, `walstream` streams WAL, `doctor` looks at the server's settings.
"""
