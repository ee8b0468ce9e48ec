-- Moving in from another PACS. The PostgreSQL twin of this file has the same tables and columns.

-- One move from one remote AE: what of it is wanted, how it is brought, and who works on it. how is the service: 'move' or 'get'. Dates are DICOM's,
-- empty for no limit; modalities and patients are lists, empty for all. A migration has one worker at a time: node, lease_until and fence say which.
-- attempts counts failures of the remote in a row. Times are the database's.
CREATE TABLE migrations (
    id           INTEGER PRIMARY KEY,
    remote       TEXT    NOT NULL,
    how          TEXT    NOT NULL CHECK (how IN ('move', 'get')),
    oldest_first INTEGER NOT NULL CHECK (oldest_first IN (0, 1)),
    date_from    TEXT    NOT NULL,
    date_to      TEXT    NOT NULL,
    modalities   TEXT    NOT NULL,
    patients     TEXT    NOT NULL,
    state        TEXT    NOT NULL CHECK (state IN ('running', 'paused', 'done', 'cancelled')),
    asked_at     INTEGER NOT NULL,
    ended_at     INTEGER,
    node         INTEGER REFERENCES nodes (id),
    attempts     INTEGER NOT NULL DEFAULT 0,
    next_at      INTEGER NOT NULL DEFAULT 0,
    lease_until  INTEGER NOT NULL DEFAULT 0,
    fence        INTEGER NOT NULL DEFAULT 0,
    error        TEXT    NOT NULL DEFAULT ''
) STRICT;
CREATE UNIQUE INDEX migrations_open ON migrations (remote) WHERE state IN ('running', 'paused');
CREATE INDEX migrations_by_remote ON migrations (remote);

-- A question that the remote still has to be asked for its studies: the matching keys as they are sent, empty for universal matching. What was
-- answered in full is gone. 'incomplete': the remote cut its answer short, and it cannot be asked for less.
CREATE TABLE migration_windows (
    id         INTEGER PRIMARY KEY,
    migration  INTEGER NOT NULL REFERENCES migrations (id),
    turn       INTEGER NOT NULL,
    study_date TEXT    NOT NULL,
    study_time TEXT    NOT NULL,
    patient_id TEXT    NOT NULL,
    state      TEXT    NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'incomplete')),
    error      TEXT    NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX migration_windows_open ON migration_windows (migration, turn, study_date) WHERE state = 'open';
CREATE INDEX migration_windows_incomplete ON migration_windows (migration) WHERE state = 'incomplete';

-- A study that the remote has told of. told is its Number of Study Related Instances; images and here are what was counted when it was looked at last.
CREATE TABLE migration_studies (
    id               INTEGER PRIMARY KEY,
    migration        INTEGER NOT NULL REFERENCES migrations (id),
    study_uid        TEXT    NOT NULL,
    study_date       TEXT    NOT NULL,
    patient_id       TEXT    NOT NULL,
    accession_number TEXT    NOT NULL,
    told             INTEGER,
    state            TEXT    NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'moving', 'done', 'failed')),
    attempts         INTEGER NOT NULL DEFAULT 0,
    next_at          INTEGER NOT NULL DEFAULT 0,
    images           INTEGER NOT NULL DEFAULT 0,
    here             INTEGER NOT NULL DEFAULT 0,
    found_at         INTEGER NOT NULL,
    ended_at         INTEGER,
    error            TEXT    NOT NULL DEFAULT '',
    UNIQUE (migration, study_uid)
) STRICT;
CREATE INDEX migration_studies_queued ON migration_studies (migration, study_date, id) WHERE state = 'queued';
CREATE INDEX migration_studies_by_state ON migration_studies (migration, state, id);
