-- What is wrong with the archive: where catalogue, hot files and cold objects do not agree. The PostgreSQL twin of this file has the same tables
-- and columns.

-- kind is a word of the program's. subject is an object id, the key of a cold object, or a path below the data directory. node is whose disk it is
-- on, NULL for what all nodes share. Times are the database's. One that was seen again is one row while it is open. repair says how it was put right;
-- empty in a closed one: it was found to be so no more.
CREATE TABLE findings (
    id           INTEGER PRIMARY KEY,
    kind         TEXT    NOT NULL,
    subject      TEXT    NOT NULL,
    node         INTEGER REFERENCES nodes (id),
    study_uid    TEXT    NOT NULL,
    detail       TEXT    NOT NULL,
    found_at     INTEGER NOT NULL,
    last_seen_at INTEGER NOT NULL,
    closed_at    INTEGER,
    repair       TEXT    NOT NULL DEFAULT ''
) STRICT;
CREATE UNIQUE INDEX findings_open ON findings (kind, subject, coalesce(node, 0)) WHERE closed_at IS NULL;
CREATE INDEX findings_closed ON findings (closed_at) WHERE closed_at IS NOT NULL;

-- How far a node has looked through something: what was dealt with last, in the order in which it is looked at. began_at and ended_at are the
-- database's times.
CREATE TABLE integrity_passes (
    node     INTEGER NOT NULL REFERENCES nodes (id),
    pass     TEXT    NOT NULL,
    position TEXT    NOT NULL DEFAULT '',
    began_at INTEGER NOT NULL,
    ended_at INTEGER,
    checked  INTEGER NOT NULL DEFAULT 0,
    bytes    INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (node, pass)
) STRICT, WITHOUT ROWID;
