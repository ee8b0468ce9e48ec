-- The catalogue. Times are microseconds since 1970-01-01T00:00:00Z, states are words, flags are 0 or 1, lists are sorted and
-- joined by a backslash. The PostgreSQL twin of this file has the same tables and columns; whoever changes one changes both.

CREATE TABLE nodes (
    id         INTEGER PRIMARY KEY,
    node_id    BLOB    NOT NULL UNIQUE CHECK (length(node_id) = 16),
    first_seen INTEGER NOT NULL
) STRICT;

-- A patient is a Patient ID and its issuer. Without a Patient ID every study is a patient of its own: own_study is then its
-- UID, otherwise empty. Counts are of served instances, and of studies and series that have any; 0 is not found.
CREATE TABLE patients (
    id          INTEGER PRIMARY KEY,
    patient_id  TEXT    NOT NULL,
    issuer      TEXT    NOT NULL,
    own_study   TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    name_folded TEXT    NOT NULL,
    birth_date  TEXT    NOT NULL,
    sex         TEXT    NOT NULL,
    studies     INTEGER NOT NULL DEFAULT 0 CHECK (studies >= 0),
    series      INTEGER NOT NULL DEFAULT 0 CHECK (series >= 0),
    instances   INTEGER NOT NULL DEFAULT 0 CHECK (instances >= 0),
    UNIQUE (patient_id, issuer, own_study)
) STRICT;
CREATE INDEX patients_by_name ON patients (name_folded);

-- The columns describe the first served instance or the last correction. header is the dictionary of the headers below it and
-- never changes.
CREATE TABLE studies (
    id               INTEGER PRIMARY KEY,
    patient          INTEGER NOT NULL REFERENCES patients (id),
    study_uid        TEXT    NOT NULL UNIQUE,
    study_date       TEXT    NOT NULL,
    study_time       TEXT    NOT NULL,
    accession_number TEXT    NOT NULL,
    study_id         TEXT    NOT NULL,
    description      TEXT    NOT NULL,
    referring        TEXT    NOT NULL,
    referring_folded TEXT    NOT NULL,
    modalities       TEXT    NOT NULL DEFAULT '',
    sop_classes      TEXT    NOT NULL DEFAULT '',
    series           INTEGER NOT NULL DEFAULT 0 CHECK (series >= 0),
    instances        INTEGER NOT NULL DEFAULT 0 CHECK (instances >= 0),
    bytes            INTEGER NOT NULL DEFAULT 0 CHECK (bytes >= 0),
    header           BLOB    NOT NULL
) STRICT;
CREATE INDEX studies_by_patient ON studies (patient);
CREATE INDEX studies_by_date ON studies (study_date, study_time);
CREATE INDEX studies_by_accession_number ON studies (accession_number);
CREATE INDEX studies_by_referring ON studies (referring_folded);

-- Series Number is NULL where it is no number. header is a difference to the study's.
CREATE TABLE series (
    id            INTEGER PRIMARY KEY,
    study         INTEGER NOT NULL REFERENCES studies (id),
    series_uid    TEXT    NOT NULL,
    modality      TEXT    NOT NULL,
    series_number INTEGER,
    description   TEXT    NOT NULL,
    body_part     TEXT    NOT NULL,
    series_date   TEXT    NOT NULL,
    series_time   TEXT    NOT NULL,
    sop_classes   TEXT    NOT NULL DEFAULT '',
    instances     INTEGER NOT NULL DEFAULT 0 CHECK (instances >= 0),
    bytes         INTEGER NOT NULL DEFAULT 0 CHECK (bytes >= 0),
    header        BLOB    NOT NULL,
    UNIQUE (study, series_uid)
) STRICT;
CREATE INDEX series_by_uid ON series (series_uid);

-- One cold object: the members are the objects that name it. node has the hot files it is made of; lease_until and fence say
-- who works on it. verified_at is set once and for all when the cold store's copy was compared.
CREATE TABLE packs (
    id          INTEGER PRIMARY KEY,
    series      INTEGER NOT NULL REFERENCES series (id),
    node        INTEGER NOT NULL REFERENCES nodes (id),
    cold_key    TEXT    NOT NULL UNIQUE,
    length      INTEGER NOT NULL,
    serving     TEXT    NOT NULL CHECK (serving IN ('served', 'superseded', 'rejected', 'quarantined')),
    state       TEXT    NOT NULL CHECK (state IN ('planned', 'uploaded', 'verified', 'archive_access', 'deep_archive_access')),
    crc64       INTEGER,
    attempts    INTEGER NOT NULL DEFAULT 0,
    next_at     INTEGER NOT NULL DEFAULT 0,
    lease_until INTEGER NOT NULL DEFAULT 0,
    fence       INTEGER NOT NULL DEFAULT 0,
    error       TEXT    NOT NULL DEFAULT '',
    verified_at INTEGER,
    seen_at     INTEGER
) STRICT;
CREATE INDEX packs_by_series ON packs (series);
CREATE INDEX packs_due ON packs (node, next_at) WHERE state IN ('planned', 'uploaded');

-- Every version of every instance. counterpart is the version that this one superseded, or the copy that is kept instead of it.
-- pack refers to packs; it is no foreign key because a pack may be dissolved and an index on it would be as long as the table.
CREATE TABLE objects (
    id               INTEGER PRIMARY KEY,
    series           INTEGER NOT NULL REFERENCES series (id),
    object_id        BLOB    NOT NULL UNIQUE CHECK (length(object_id) = 16),
    sop_instance_uid TEXT    NOT NULL,
    sop_class_uid    TEXT    NOT NULL,
    transfer_syntax  TEXT    NOT NULL,
    instance_number  INTEGER,
    state            TEXT    NOT NULL CHECK (state IN ('served', 'superseded', 'rejected', 'quarantined', 'deleted')),
    reason           TEXT    NOT NULL DEFAULT '',
    counterpart      BLOB,
    sha256           BLOB    NOT NULL CHECK (length(sha256) = 32),
    crc32            INTEGER NOT NULL,
    length           INTEGER NOT NULL,
    received_at      INTEGER NOT NULL,
    source           TEXT    NOT NULL,
    header           BLOB    NOT NULL,
    header_partial   INTEGER NOT NULL CHECK (header_partial IN (0, 1)),
    pack             INTEGER,
    pack_offset      INTEGER,
    CHECK ((pack IS NULL) = (pack_offset IS NULL))
) STRICT;
-- At most one served version of a SOP Instance UID, and all versions of one, in a single index: NULLs are distinct.
CREATE UNIQUE INDEX objects_by_sop_instance ON objects (sop_instance_uid, (CASE WHEN state = 'served' THEN 1 END));
CREATE INDEX objects_by_series ON objects (series);
CREATE INDEX objects_quarantined ON objects (received_at) WHERE state = 'quarantined';

-- The files on a node's disk. A doomed one belongs to a tombstone and waits for the mover to remove it; a rotten one no longer
-- has the bytes that were received. recalled: it came back from the cold store and counts against the recall budget.
CREATE TABLE hot_copies (
    object   INTEGER NOT NULL REFERENCES objects (id),
    node     INTEGER NOT NULL REFERENCES nodes (id),
    state    TEXT    NOT NULL DEFAULT 'held' CHECK (state IN ('held', 'doomed', 'rotten')),
    recalled INTEGER NOT NULL DEFAULT 0 CHECK (recalled IN (0, 1)),
    PRIMARY KEY (object, node)
) STRICT, WITHOUT ROWID;
CREATE INDEX hot_copies_doomed ON hot_copies (node) WHERE state = 'doomed';
CREATE INDEX hot_copies_recalled ON hot_copies (node) WHERE recalled = 1;

-- A series on a node: the queue of offload and the clock of eviction. unpacked: it has hot objects without a pack there. The
-- counts are of its held hot copies.
CREATE TABLE series_nodes (
    series            INTEGER NOT NULL REFERENCES series (id),
    node              INTEGER NOT NULL REFERENCES nodes (id),
    state             TEXT    NOT NULL CHECK (state IN ('unpacked', 'packed', 'evicted')),
    last_received     INTEGER NOT NULL,
    last_used         INTEGER NOT NULL,
    hot_objects       INTEGER NOT NULL DEFAULT 0 CHECK (hot_objects >= 0),
    hot_bytes         INTEGER NOT NULL DEFAULT 0 CHECK (hot_bytes >= 0),
    offload_requested INTEGER NOT NULL DEFAULT 0 CHECK (offload_requested IN (0, 1)),
    attempts          INTEGER NOT NULL DEFAULT 0,
    lease_until       INTEGER NOT NULL DEFAULT 0,
    fence             INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (series, node)
) STRICT, WITHOUT ROWID;
CREATE INDEX series_nodes_unpacked ON series_nodes (node, last_received) WHERE state = 'unpacked';
CREATE INDEX series_nodes_packed ON series_nodes (node, last_used, series) WHERE state = 'packed';

-- What the bytes do not tell, on its way to the cold store. entry names it there; the row id is only this database's.
CREATE TABLE journal (
    id         INTEGER PRIMARY KEY,
    entry      BLOB    NOT NULL UNIQUE CHECK (length(entry) = 16),
    study_uid  TEXT    NOT NULL,
    object_id  BLOB    NOT NULL,
    body       TEXT    NOT NULL,
    written_at INTEGER
) STRICT;
CREATE INDEX journal_pending ON journal (id) WHERE written_at IS NULL;
CREATE INDEX journal_pending_by_object ON journal (object_id) WHERE written_at IS NULL;

-- One Patient ID with two names or birth dates, one Study Instance UID with two patients.
CREATE TABLE conflicts (
    id          INTEGER PRIMARY KEY,
    kind        TEXT    NOT NULL CHECK (kind IN ('name', 'birth_date', 'patient_of_study')),
    patient     INTEGER NOT NULL REFERENCES patients (id),
    study_uid   TEXT    NOT NULL,
    on_record   TEXT    NOT NULL,
    arrived     TEXT    NOT NULL,
    source      TEXT    NOT NULL,
    found_at    INTEGER NOT NULL,
    resolved_at INTEGER,
    UNIQUE (patient, kind, study_uid, arrived)
) STRICT;

CREATE TABLE audit (
    id         INTEGER PRIMARY KEY,
    at         INTEGER NOT NULL,
    action     TEXT    NOT NULL,
    actor      TEXT    NOT NULL,
    address    TEXT    NOT NULL,
    patient_id TEXT    NOT NULL,
    study_uid  TEXT    NOT NULL,
    detail     TEXT    NOT NULL
) STRICT;
