-- Rejection notes (IHE IOCM): Key Object Selection Documents that take the instances they list out of service. object is the
-- note's own row. waiting: served, and not obeyed yet; refused: kept as any other object, for a person to apply; obeyed: in force
-- until a person undoes it. code is empty until a note whose header was not kept whole has been read. actor is the person who
-- decided, empty where the sender's right did.
CREATE TABLE rejections (
    id         INTEGER PRIMARY KEY,
    object     INTEGER NOT NULL UNIQUE REFERENCES objects (id),
    note_uid   TEXT    NOT NULL,
    code       TEXT    NOT NULL CHECK (code IN ('', '113001', '113037', '113038', '113039')),
    state      TEXT    NOT NULL CHECK (state IN ('waiting', 'obeyed', 'refused', 'undone')),
    reason     TEXT    NOT NULL DEFAULT '',
    actor      TEXT    NOT NULL DEFAULT '',
    listed     INTEGER NOT NULL DEFAULT 0,
    decided_at INTEGER
) STRICT;
CREATE INDEX rejections_by_note ON rejections (note_uid);
CREATE INDEX rejections_open ON rejections (id) WHERE state IN ('waiting', 'refused');

-- What notes that are or were in force list, whether it is here or not: an instance may come later.
CREATE TABLE rejection_items (
    rejection        INTEGER NOT NULL REFERENCES rejections (id),
    sop_instance_uid TEXT    NOT NULL,
    study_uid        TEXT    NOT NULL,
    series_uid       TEXT    NOT NULL,
    PRIMARY KEY (rejection, sop_instance_uid, study_uid)
) STRICT, WITHOUT ROWID;
CREATE INDEX rejection_items_by_sop_instance ON rejection_items (sop_instance_uid);
