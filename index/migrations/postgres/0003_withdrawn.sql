-- The same tables and columns as in the SQLite twin of this file, which says what they mean.

CREATE TABLE rejections (
    id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    object     BIGINT NOT NULL UNIQUE REFERENCES objects (id),
    note_uid   TEXT COLLATE "C" NOT NULL,
    code       TEXT COLLATE "C" NOT NULL CHECK (code IN ('', '113001', '113037', '113038', '113039')),
    state      TEXT COLLATE "C" NOT NULL CHECK (state IN ('waiting', 'obeyed', 'refused', 'undone')),
    reason     TEXT   NOT NULL DEFAULT '',
    actor      TEXT   NOT NULL DEFAULT '',
    listed     BIGINT NOT NULL DEFAULT 0,
    decided_at BIGINT
);
CREATE INDEX rejections_by_note ON rejections (note_uid);
CREATE INDEX rejections_open ON rejections (id) WHERE state IN ('waiting', 'refused');

CREATE TABLE rejection_items (
    rejection        BIGINT NOT NULL REFERENCES rejections (id),
    sop_instance_uid TEXT COLLATE "C" NOT NULL,
    study_uid        TEXT COLLATE "C" NOT NULL,
    series_uid       TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (rejection, sop_instance_uid, study_uid)
);
CREATE INDEX rejection_items_by_sop_instance ON rejection_items (sop_instance_uid);
