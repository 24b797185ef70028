"""The database: its connection, its tables, and what is read from and written to them.

Owns studies, code versions, attempts, drivers with their heartbeats and leases, and the record of
accesses to test sets. Must not choose parameters or rank trials: that is `search`. Start at
`opening.open_database`, `studies.Catalog`, `attempts.Ledger` and `drivers.DriverLease`.
"""
