-- Storage commitment (PS3.4 J). A row is what somebody asked for under a Transaction UID, kept from before the answer to the
-- request until some time after the answer to the report. The SQLite twin of this file has the same tables and columns.

-- origin is where it was asked for: the requester's association may still be open there. node works on it next; lease_until and
-- fence say who does so now. digest is of the references, whatever their order. attempts counts reports that did not arrive.
CREATE TABLE commitments (
    id              BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    requester       TEXT COLLATE "C" NOT NULL,
    called          TEXT COLLATE "C" NOT NULL,
    transaction_uid TEXT COLLATE "C" NOT NULL,
    origin          BIGINT NOT NULL REFERENCES nodes (id),
    node            BIGINT NOT NULL REFERENCES nodes (id),
    state           TEXT COLLATE "C" NOT NULL CHECK (state IN ('accepted', 'reporting', 'reported', 'given_up')),
    instances       BIGINT NOT NULL CHECK (instances > 0),
    failed          BIGINT NOT NULL DEFAULT 0 CHECK (failed >= 0),
    digest          BYTEA NOT NULL CHECK (octet_length(digest) = 32),
    asked_at        BIGINT NOT NULL,
    reporting_since BIGINT,
    ended_at        BIGINT,
    attempts        BIGINT NOT NULL DEFAULT 0,
    next_at         BIGINT NOT NULL DEFAULT 0,
    lease_until     BIGINT NOT NULL DEFAULT 0,
    fence           BIGINT NOT NULL DEFAULT 0,
    error           TEXT COLLATE "C" NOT NULL DEFAULT '',
    UNIQUE (requester, transaction_uid)
);
CREATE INDEX commitments_due ON commitments (next_at) WHERE state IN ('accepted', 'reporting');
CREATE INDEX commitments_ended ON commitments (ended_at) WHERE ended_at IS NOT NULL;

-- The references of an open commitment, a thousand a row, compressed; gone with the answer to the report.
CREATE TABLE commitment_parts (
    commitment BIGINT NOT NULL REFERENCES commitments (id),
    part       BIGINT NOT NULL,
    body       BYTEA NOT NULL,
    PRIMARY KEY (commitment, part)
);
