-- Deleting on purpose. The SQLite twin of this file has the same tables and columns.

-- One request of a person. entry names it in the journal, where row ids mean nothing. series_uid is empty for a whole study,
-- sop_instance_uid for a study or series. asked_at, due_at and ended_at are by the clocks of the nodes; due_at is the end of the
-- grace period. Nothing comes back from erasing on. instances are SOP Instance UIDs, objects all versions of them, bytes those of
-- the objects. lifted_at: a person permits what it deleted to come again. detail says why what is still there is still there.
CREATE TABLE deletions (
    id               BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    entry            UUID   NOT NULL UNIQUE,
    level            TEXT COLLATE "C" NOT NULL CHECK (level IN ('study', 'series', 'instance')),
    study_uid        TEXT COLLATE "C" NOT NULL,
    series_uid       TEXT COLLATE "C" NOT NULL DEFAULT '',
    sop_instance_uid TEXT COLLATE "C" NOT NULL DEFAULT '',
    reason           TEXT COLLATE "C" NOT NULL,
    actor            TEXT COLLATE "C" NOT NULL,
    despite          TEXT COLLATE "C" NOT NULL DEFAULT '',
    asked_at         BIGINT NOT NULL,
    due_at           BIGINT NOT NULL,
    state            TEXT COLLATE "C" NOT NULL CHECK (state IN ('waiting', 'taken_back', 'erasing', 'erased')),
    instances        BIGINT NOT NULL DEFAULT 0 CHECK (instances >= 0),
    objects          BIGINT NOT NULL DEFAULT 0 CHECK (objects >= 0),
    bytes            BIGINT NOT NULL DEFAULT 0 CHECK (bytes >= 0),
    ended_at         BIGINT,
    ended_by         TEXT COLLATE "C" NOT NULL DEFAULT '',
    lifted_at        BIGINT,
    lifted_by        TEXT COLLATE "C" NOT NULL DEFAULT ''
);
CREATE INDEX deletions_open ON deletions (due_at) WHERE state IN ('waiting', 'erasing');
CREATE INDEX deletions_by_study ON deletions (study_uid);

-- What a deletion keeps from coming again, for as long as it is neither taken back nor lifted: UIDs and nothing else.
CREATE TABLE tombstones (
    sop_instance_uid TEXT COLLATE "C" NOT NULL,
    deletion         BIGINT NOT NULL REFERENCES deletions (id),
    PRIMARY KEY (sop_instance_uid, deletion)
);
CREATE INDEX tombstones_by_deletion ON tombstones (deletion);

-- Objects that a deletion has in hand, from the request until they are given back or erased, and what they were before. Objects
-- that are deleted without a row here are tombstones of another kind: redundant, refused or discarded.
CREATE TABLE deleted_objects (
    object      BIGINT PRIMARY KEY REFERENCES objects (id),
    deletion    BIGINT NOT NULL REFERENCES deletions (id),
    state       TEXT COLLATE "C" NOT NULL CHECK (state IN ('served', 'superseded', 'rejected', 'quarantined', 'deleted')),
    reason      TEXT COLLATE "C" NOT NULL DEFAULT '',
    counterpart UUID
);
CREATE INDEX deleted_objects_by_deletion ON deleted_objects (deletion);

-- Verified packs that hold what is to be erased, and who works on which. replacement is the key of a pack that takes the place
-- of this one, from before its first byte is put: what a crash leaves of it is found by that. locked_until: the cold store
-- refuses to delete it before (Object Lock). It is due when the database's clock has reached next_at or a node's look_at.
CREATE TABLE erasures (
    pack         BIGINT PRIMARY KEY REFERENCES packs (id),
    node         BIGINT REFERENCES nodes (id),
    attempts     BIGINT NOT NULL DEFAULT 0,
    next_at      BIGINT NOT NULL DEFAULT 0,
    look_at      BIGINT NOT NULL DEFAULT 0,
    lease_until  BIGINT NOT NULL DEFAULT 0,
    fence        BIGINT NOT NULL DEFAULT 0,
    replacement  TEXT COLLATE "C" NOT NULL DEFAULT '',
    locked_until BIGINT,
    error        TEXT COLLATE "C" NOT NULL DEFAULT ''
);
CREATE INDEX erasures_due ON erasures (next_at);

-- Files that came to lie in the hot store of a node although a deletion forbids it: the mover removes them. The rows stay, so
-- that the same arrival again is answered as before.
CREATE TABLE refused_files (
    object_id UUID   PRIMARY KEY,
    node      BIGINT NOT NULL REFERENCES nodes (id),
    removed   BIGINT NOT NULL DEFAULT 0 CHECK (removed IN (0, 1))
);
CREATE INDEX refused_files_there ON refused_files (node) WHERE removed = 0;

-- What the journal says of objects that a deletion has in hand, while their files have not been found yet.
ALTER TABLE rebuild_verdicts ADD COLUMN deletion UUID;
