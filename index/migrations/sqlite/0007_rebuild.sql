-- Making the catalogue anew from the cold store and the hot files.

-- At most one row: the rebuild that made this catalogue. Until it has ended nothing else may use what is here.
CREATE TABLE rebuilds (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    started_at  INTEGER NOT NULL,
    finished_at INTEGER
) STRICT;

-- When what the columns of a row say was so, while a rebuild runs: the newest statement stays.
CREATE TABLE rebuild_described (
    kind   TEXT    NOT NULL CHECK (kind IN ('patient', 'study', 'series')),
    row_id INTEGER NOT NULL,
    at     INTEGER NOT NULL,
    PRIMARY KEY (kind, row_id)
) STRICT, WITHOUT ROWID;

-- What the journal says of objects that are in no pack. They may lie on the disk of some node that has not been seen yet.
CREATE TABLE rebuild_verdicts (
    object_id   BLOB    PRIMARY KEY CHECK (length(object_id) = 16),
    state       TEXT             CHECK (state IN ('served', 'superseded', 'rejected', 'quarantined', 'deleted')),
    reason      TEXT    NOT NULL DEFAULT '',
    counterpart BLOB,
    sha256      BLOB,
    accepted    INTEGER NOT NULL DEFAULT 0 CHECK (accepted IN (0, 1)),
    at          INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What the journal says of rejection notes, and what it says they list.
CREATE TABLE rebuild_notes (
    object_id  BLOB    PRIMARY KEY CHECK (length(object_id) = 16),
    code       TEXT    NOT NULL,
    state      TEXT    NOT NULL CHECK (state IN ('obeyed', 'refused', 'undone')),
    reason     TEXT    NOT NULL DEFAULT '',
    actor      TEXT    NOT NULL DEFAULT '',
    decided_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE rebuild_listed (
    object_id        BLOB NOT NULL,
    sop_instance_uid TEXT NOT NULL,
    study_uid        TEXT NOT NULL,
    series_uid       TEXT NOT NULL,
    PRIMARY KEY (object_id, sop_instance_uid, study_uid)
) STRICT, WITHOUT ROWID;

-- When the first object of a study was received: their order, which no row id keeps through a rebuild. Of what is here already
-- only the order is known.
ALTER TABLE studies ADD COLUMN known_since INTEGER NOT NULL DEFAULT 0;

-- When a node's disk was first compared with this catalogue. What it holds before that is put on record rather than removed.
ALTER TABLE nodes ADD COLUMN swept_at INTEGER;
UPDATE nodes SET swept_at = first_seen;
