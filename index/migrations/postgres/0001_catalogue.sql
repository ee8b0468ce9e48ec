-- The catalogue. Times are microseconds since 1970-01-01T00:00:00Z, states are words, flags are 0 or 1, lists are sorted and
-- joined by a backslash. The SQLite twin of this file has the same tables and columns; whoever changes one changes both.
-- Text compares by bytes here as it does there.

CREATE TABLE nodes (
    id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    node_id    UUID NOT NULL UNIQUE,
    first_seen BIGINT NOT NULL
);

-- A patient is a Patient ID and its issuer. Without a Patient ID every study is a patient of its own: own_study is then its
-- UID, otherwise empty. Counts are of served instances, and of studies and series that have any; 0 is not found.
CREATE TABLE patients (
    id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    patient_id  TEXT COLLATE "C" NOT NULL,
    issuer      TEXT COLLATE "C" NOT NULL,
    own_study   TEXT COLLATE "C" NOT NULL,
    name        TEXT COLLATE "C" NOT NULL,
    name_folded TEXT COLLATE "C" NOT NULL,
    birth_date  TEXT COLLATE "C" NOT NULL,
    sex         TEXT COLLATE "C" NOT NULL,
    studies     BIGINT NOT NULL DEFAULT 0 CHECK (studies >= 0),
    series      BIGINT NOT NULL DEFAULT 0 CHECK (series >= 0),
    instances   BIGINT NOT NULL DEFAULT 0 CHECK (instances >= 0),
    UNIQUE (patient_id, issuer, own_study)
);
CREATE INDEX patients_by_name ON patients (name_folded);

-- The columns describe the first served instance or the last correction. header is the dictionary of the headers below it and
-- never changes.
CREATE TABLE studies (
    id               BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    patient          BIGINT NOT NULL REFERENCES patients (id),
    study_uid        TEXT COLLATE "C" NOT NULL UNIQUE,
    study_date       TEXT COLLATE "C" NOT NULL,
    study_time       TEXT COLLATE "C" NOT NULL,
    accession_number TEXT COLLATE "C" NOT NULL,
    study_id         TEXT COLLATE "C" NOT NULL,
    description      TEXT COLLATE "C" NOT NULL,
    referring        TEXT COLLATE "C" NOT NULL,
    referring_folded TEXT COLLATE "C" NOT NULL,
    modalities       TEXT COLLATE "C" NOT NULL DEFAULT '',
    sop_classes      TEXT COLLATE "C" NOT NULL DEFAULT '',
    series           BIGINT NOT NULL DEFAULT 0 CHECK (series >= 0),
    instances        BIGINT NOT NULL DEFAULT 0 CHECK (instances >= 0),
    bytes            BIGINT NOT NULL DEFAULT 0 CHECK (bytes >= 0),
    header           BYTEA NOT NULL
);
CREATE INDEX studies_by_patient ON studies (patient);
CREATE INDEX studies_by_date ON studies (study_date, study_time);
CREATE INDEX studies_by_accession_number ON studies (accession_number);
CREATE INDEX studies_by_referring ON studies (referring_folded);

-- Series Number is NULL where it is no number. header is a difference to the study's.
CREATE TABLE series (
    id            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    study         BIGINT NOT NULL REFERENCES studies (id),
    series_uid    TEXT COLLATE "C" NOT NULL,
    modality      TEXT COLLATE "C" NOT NULL,
    series_number BIGINT,
    description   TEXT COLLATE "C" NOT NULL,
    body_part     TEXT COLLATE "C" NOT NULL,
    series_date   TEXT COLLATE "C" NOT NULL,
    series_time   TEXT COLLATE "C" NOT NULL,
    sop_classes   TEXT COLLATE "C" NOT NULL DEFAULT '',
    instances     BIGINT NOT NULL DEFAULT 0 CHECK (instances >= 0),
    bytes         BIGINT NOT NULL DEFAULT 0 CHECK (bytes >= 0),
    header        BYTEA NOT NULL,
    UNIQUE (study, series_uid)
);
CREATE INDEX series_by_uid ON series (series_uid);

-- One cold object: the members are the objects that name it. node has the hot files it is made of; lease_until and fence say
-- who works on it. verified_at is set once and for all when the cold store's copy was compared.
CREATE TABLE packs (
    id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    series      BIGINT NOT NULL REFERENCES series (id),
    node        BIGINT NOT NULL REFERENCES nodes (id),
    cold_key    TEXT COLLATE "C" NOT NULL UNIQUE,
    length      BIGINT NOT NULL,
    serving     TEXT COLLATE "C" NOT NULL CHECK (serving IN ('served', 'superseded', 'rejected', 'quarantined')),
    state       TEXT COLLATE "C" NOT NULL CHECK (state IN ('planned', 'uploaded', 'verified', 'archive_access', 'deep_archive_access')),
    crc64       BIGINT,
    attempts    BIGINT NOT NULL DEFAULT 0,
    next_at     BIGINT NOT NULL DEFAULT 0,
    lease_until BIGINT NOT NULL DEFAULT 0,
    fence       BIGINT NOT NULL DEFAULT 0,
    error       TEXT COLLATE "C" NOT NULL DEFAULT '',
    verified_at BIGINT,
    seen_at     BIGINT
);
CREATE INDEX packs_by_series ON packs (series);
CREATE INDEX packs_due ON packs (node, next_at) WHERE state IN ('planned', 'uploaded');

-- Every version of every instance. counterpart is the version that this one superseded, or the copy that is kept instead of it.
-- pack refers to packs; it is no foreign key because a pack may be dissolved and an index on it would be as long as the table.
CREATE TABLE objects (
    id               BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    series           BIGINT NOT NULL REFERENCES series (id),
    object_id        UUID NOT NULL UNIQUE,
    sop_instance_uid TEXT COLLATE "C" NOT NULL,
    sop_class_uid    TEXT COLLATE "C" NOT NULL,
    transfer_syntax  TEXT COLLATE "C" NOT NULL,
    instance_number  BIGINT,
    state            TEXT COLLATE "C" NOT NULL CHECK (state IN ('served', 'superseded', 'rejected', 'quarantined', 'deleted')),
    reason           TEXT COLLATE "C" NOT NULL DEFAULT '',
    counterpart      UUID,
    sha256           BYTEA NOT NULL CHECK (octet_length(sha256) = 32),
    crc32            BIGINT NOT NULL,
    length           BIGINT NOT NULL,
    received_at      BIGINT NOT NULL,
    source           TEXT COLLATE "C" NOT NULL,
    header           BYTEA NOT NULL,
    header_partial   BIGINT NOT NULL CHECK (header_partial IN (0, 1)),
    pack             BIGINT,
    pack_offset      BIGINT,
    CHECK ((pack IS NULL) = (pack_offset IS NULL))
);
-- At most one served version of a SOP Instance UID, and all versions of one, in a single index: NULLs are distinct.
CREATE UNIQUE INDEX objects_by_sop_instance ON objects (sop_instance_uid, (CASE WHEN state = 'served' THEN 1 END));
CREATE INDEX objects_by_series ON objects (series);
CREATE INDEX objects_quarantined ON objects (received_at) WHERE state = 'quarantined';

-- The files on a node's disk. A doomed one belongs to a tombstone and waits for the mover to remove it; a rotten one no longer
-- has the bytes that were received. recalled: it came back from the cold store and counts against the recall budget.
CREATE TABLE hot_copies (
    object   BIGINT NOT NULL REFERENCES objects (id),
    node     BIGINT NOT NULL REFERENCES nodes (id),
    state    TEXT COLLATE "C" NOT NULL DEFAULT 'held' CHECK (state IN ('held', 'doomed', 'rotten')),
    recalled BIGINT NOT NULL DEFAULT 0 CHECK (recalled IN (0, 1)),
    PRIMARY KEY (object, node)
);
CREATE INDEX hot_copies_doomed ON hot_copies (node) WHERE state = 'doomed';
CREATE INDEX hot_copies_recalled ON hot_copies (node) WHERE recalled = 1;

-- A series on a node: the queue of offload and the clock of eviction. unpacked: it has hot objects without a pack there. The
-- counts are of its held hot copies.
CREATE TABLE series_nodes (
    series            BIGINT NOT NULL REFERENCES series (id),
    node              BIGINT NOT NULL REFERENCES nodes (id),
    state             TEXT COLLATE "C" NOT NULL CHECK (state IN ('unpacked', 'packed', 'evicted')),
    last_received     BIGINT NOT NULL,
    last_used         BIGINT NOT NULL,
    hot_objects       BIGINT NOT NULL DEFAULT 0 CHECK (hot_objects >= 0),
    hot_bytes         BIGINT NOT NULL DEFAULT 0 CHECK (hot_bytes >= 0),
    offload_requested BIGINT NOT NULL DEFAULT 0 CHECK (offload_requested IN (0, 1)),
    attempts          BIGINT NOT NULL DEFAULT 0,
    lease_until       BIGINT NOT NULL DEFAULT 0,
    fence             BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (series, node)
);
CREATE INDEX series_nodes_unpacked ON series_nodes (node, last_received) WHERE state = 'unpacked';
CREATE INDEX series_nodes_packed ON series_nodes (node, last_used, series) WHERE state = 'packed';

-- What the bytes do not tell, on its way to the cold store. entry names it there; the row id is only this database's.
CREATE TABLE journal (
    id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    entry      UUID NOT NULL UNIQUE,
    study_uid  TEXT COLLATE "C" NOT NULL,
    object_id  UUID NOT NULL,
    body       TEXT COLLATE "C" NOT NULL,
    written_at BIGINT
);
CREATE INDEX journal_pending ON journal (id) WHERE written_at IS NULL;
CREATE INDEX journal_pending_by_object ON journal (object_id) WHERE written_at IS NULL;

-- One Patient ID with two names or birth dates, one Study Instance UID with two patients.
CREATE TABLE conflicts (
    id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind        TEXT COLLATE "C" NOT NULL CHECK (kind IN ('name', 'birth_date', 'patient_of_study')),
    patient     BIGINT NOT NULL REFERENCES patients (id),
    study_uid   TEXT COLLATE "C" NOT NULL,
    on_record   TEXT COLLATE "C" NOT NULL,
    arrived     TEXT COLLATE "C" NOT NULL,
    source      TEXT COLLATE "C" NOT NULL,
    found_at    BIGINT NOT NULL,
    resolved_at BIGINT,
    UNIQUE (patient, kind, study_uid, arrived)
);

CREATE TABLE audit (
    id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         BIGINT NOT NULL,
    action     TEXT COLLATE "C" NOT NULL,
    actor      TEXT COLLATE "C" NOT NULL,
    address    TEXT COLLATE "C" NOT NULL,
    patient_id TEXT COLLATE "C" NOT NULL,
    study_uid  TEXT COLLATE "C" NOT NULL,
    detail     TEXT COLLATE "C" NOT NULL
);
