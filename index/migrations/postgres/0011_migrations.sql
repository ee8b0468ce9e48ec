-- Moving in from another PACS. The SQLite twin of this file has the same tables and columns.

-- One move from one remote AE: what of it is wanted, how it is brought, and who works on it. how is the service: 'move' or 'get'. Dates are DICOM's,
-- empty for no limit; modalities and patients are lists, empty for all. A migration has one worker at a time: node, lease_until and fence say which.
-- attempts counts failures of the remote in a row. Times are the database's.
CREATE TABLE migrations (
    id           BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    remote       TEXT COLLATE "C" NOT NULL,
    how          TEXT COLLATE "C" NOT NULL CHECK (how IN ('move', 'get')),
    oldest_first BIGINT NOT NULL CHECK (oldest_first IN (0, 1)),
    date_from    TEXT COLLATE "C" NOT NULL,
    date_to      TEXT COLLATE "C" NOT NULL,
    modalities   TEXT COLLATE "C" NOT NULL,
    patients     TEXT COLLATE "C" NOT NULL,
    state        TEXT COLLATE "C" NOT NULL CHECK (state IN ('running', 'paused', 'done', 'cancelled')),
    asked_at     BIGINT NOT NULL,
    ended_at     BIGINT,
    node         BIGINT REFERENCES nodes (id),
    attempts     BIGINT NOT NULL DEFAULT 0,
    next_at      BIGINT NOT NULL DEFAULT 0,
    lease_until  BIGINT NOT NULL DEFAULT 0,
    fence        BIGINT NOT NULL DEFAULT 0,
    error        TEXT COLLATE "C" NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX migrations_open ON migrations (remote) WHERE state IN ('running', 'paused');
CREATE INDEX migrations_by_remote ON migrations (remote);

-- A question that the remote still has to be asked for its studies: the matching keys as they are sent, empty for universal matching. What was
-- answered in full is gone. 'incomplete': the remote cut its answer short, and it cannot be asked for less.
CREATE TABLE migration_windows (
    id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    migration  BIGINT NOT NULL REFERENCES migrations (id),
    turn       BIGINT NOT NULL,
    study_date TEXT COLLATE "C" NOT NULL,
    study_time TEXT COLLATE "C" NOT NULL,
    patient_id TEXT COLLATE "C" NOT NULL,
    state      TEXT COLLATE "C" NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'incomplete')),
    error      TEXT COLLATE "C" NOT NULL DEFAULT ''
);
CREATE INDEX migration_windows_open ON migration_windows (migration, turn, study_date) WHERE state = 'open';
CREATE INDEX migration_windows_incomplete ON migration_windows (migration) WHERE state = 'incomplete';

-- A study that the remote has told of. told is its Number of Study Related Instances; images and here are what was counted when it was looked at last.
CREATE TABLE migration_studies (
    id               BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    migration        BIGINT NOT NULL REFERENCES migrations (id),
    study_uid        TEXT COLLATE "C" NOT NULL,
    study_date       TEXT COLLATE "C" NOT NULL,
    patient_id       TEXT COLLATE "C" NOT NULL,
    accession_number TEXT COLLATE "C" NOT NULL,
    told             BIGINT,
    state            TEXT COLLATE "C" NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'moving', 'done', 'failed')),
    attempts         BIGINT NOT NULL DEFAULT 0,
    next_at          BIGINT NOT NULL DEFAULT 0,
    images           BIGINT NOT NULL DEFAULT 0,
    here             BIGINT NOT NULL DEFAULT 0,
    found_at         BIGINT NOT NULL,
    ended_at         BIGINT,
    error            TEXT COLLATE "C" NOT NULL DEFAULT '',
    UNIQUE (migration, study_uid)
);
CREATE INDEX migration_studies_queued ON migration_studies (migration, study_date, id) WHERE state = 'queued';
CREATE INDEX migration_studies_by_state ON migration_studies (migration, state, id);
