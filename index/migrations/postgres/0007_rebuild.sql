-- The same tables and columns as in the SQLite twin of this file, which says what they mean.

CREATE TABLE rebuilds (
    id          BIGINT PRIMARY KEY CHECK (id = 1),
    started_at  BIGINT NOT NULL,
    finished_at BIGINT
);

CREATE TABLE rebuild_described (
    kind   TEXT COLLATE "C" NOT NULL CHECK (kind IN ('patient', 'study', 'series')),
    row_id BIGINT NOT NULL,
    at     BIGINT NOT NULL,
    PRIMARY KEY (kind, row_id)
);

CREATE TABLE rebuild_verdicts (
    object_id   UUID PRIMARY KEY,
    state       TEXT COLLATE "C" CHECK (state IN ('served', 'superseded', 'rejected', 'quarantined', 'deleted')),
    reason      TEXT   NOT NULL DEFAULT '',
    counterpart UUID,
    sha256      BYTEA,
    accepted    BIGINT NOT NULL DEFAULT 0 CHECK (accepted IN (0, 1)),
    at          BIGINT NOT NULL
);

CREATE TABLE rebuild_notes (
    object_id  UUID PRIMARY KEY,
    code       TEXT COLLATE "C" NOT NULL,
    state      TEXT COLLATE "C" NOT NULL CHECK (state IN ('obeyed', 'refused', 'undone')),
    reason     TEXT   NOT NULL DEFAULT '',
    actor      TEXT   NOT NULL DEFAULT '',
    decided_at BIGINT NOT NULL
);
CREATE TABLE rebuild_listed (
    object_id        UUID NOT NULL,
    sop_instance_uid TEXT COLLATE "C" NOT NULL,
    study_uid        TEXT COLLATE "C" NOT NULL,
    series_uid       TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (object_id, sop_instance_uid, study_uid)
);

ALTER TABLE studies ADD COLUMN known_since BIGINT NOT NULL DEFAULT 0;

ALTER TABLE nodes ADD COLUMN swept_at BIGINT;
UPDATE nodes SET swept_at = first_seen;
