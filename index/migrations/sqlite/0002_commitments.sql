-- Storage commitment (PS3.4 J). A row is what somebody asked for under a Transaction UID, kept from before the answer to the
-- request until some time after the answer to the report. The PostgreSQL twin of this file has the same tables and columns.

-- origin is where it was asked for: the requester's association may still be open there. node works on it next; lease_until and
-- fence say who does so now. digest is of the references, whatever their order. attempts counts reports that did not arrive.
CREATE TABLE commitments (
    id              INTEGER PRIMARY KEY,
    requester       TEXT    NOT NULL,
    called          TEXT    NOT NULL,
    transaction_uid TEXT    NOT NULL,
    origin          INTEGER NOT NULL REFERENCES nodes (id),
    node            INTEGER NOT NULL REFERENCES nodes (id),
    state           TEXT    NOT NULL CHECK (state IN ('accepted', 'reporting', 'reported', 'given_up')),
    instances       INTEGER NOT NULL CHECK (instances > 0),
    failed          INTEGER NOT NULL DEFAULT 0 CHECK (failed >= 0),
    digest          BLOB    NOT NULL CHECK (length(digest) = 32),
    asked_at        INTEGER NOT NULL,
    reporting_since INTEGER,
    ended_at        INTEGER,
    attempts        INTEGER NOT NULL DEFAULT 0,
    next_at         INTEGER NOT NULL DEFAULT 0,
    lease_until     INTEGER NOT NULL DEFAULT 0,
    fence           INTEGER NOT NULL DEFAULT 0,
    error           TEXT    NOT NULL DEFAULT '',
    UNIQUE (requester, transaction_uid)
) STRICT;
CREATE INDEX commitments_due ON commitments (next_at) WHERE state IN ('accepted', 'reporting');
CREATE INDEX commitments_ended ON commitments (ended_at) WHERE ended_at IS NOT NULL;

-- The references of an open commitment, a thousand a row, compressed; gone with the answer to the report.
CREATE TABLE commitment_parts (
    commitment INTEGER NOT NULL REFERENCES commitments (id),
    part       INTEGER NOT NULL,
    body       BLOB    NOT NULL,
    PRIMARY KEY (commitment, part)
) STRICT;
