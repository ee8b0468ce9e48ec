-- The scrub: passes over what is kept, again and again. The PostgreSQL twin of this file has the same tables and columns.

-- what is looked at: one node's hot copies, or the packs that all nodes share, whose owner is 0. node holds the lease. Times are by the clocks of the
-- nodes, lease_until by the database's. began_at is NULL between two passes; position is the row id of what was looked at last. last_ is the pass that
-- was completed last.
CREATE TABLE scrubs (
    id            INTEGER PRIMARY KEY,
    what          TEXT    NOT NULL CHECK (what IN ('hot', 'cold')),
    owner         INTEGER NOT NULL,
    node          INTEGER NOT NULL REFERENCES nodes (id),
    began_at      INTEGER,
    position      INTEGER NOT NULL DEFAULT 0,
    checked       INTEGER NOT NULL DEFAULT 0,
    bytes         INTEGER NOT NULL DEFAULT 0,
    bad           INTEGER NOT NULL DEFAULT 0,
    last_began_at INTEGER,
    last_ended_at INTEGER,
    last_checked  INTEGER NOT NULL DEFAULT 0,
    last_bytes    INTEGER NOT NULL DEFAULT 0,
    last_bad      INTEGER NOT NULL DEFAULT 0,
    lease_until   INTEGER NOT NULL DEFAULT 0,
    fence         INTEGER NOT NULL DEFAULT 0,
    UNIQUE (what, owner)
) STRICT;
