-- What is wrong with the archive. The SQLite twin of this file has the same tables and columns, and says what they mean.

CREATE TABLE findings (
    id           BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind         TEXT COLLATE "C" NOT NULL,
    subject      TEXT COLLATE "C" NOT NULL,
    node         BIGINT REFERENCES nodes (id),
    study_uid    TEXT COLLATE "C" NOT NULL,
    detail       TEXT COLLATE "C" NOT NULL,
    found_at     BIGINT NOT NULL,
    last_seen_at BIGINT NOT NULL,
    closed_at    BIGINT,
    repair       TEXT COLLATE "C" NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX findings_open ON findings (kind, subject, coalesce(node, 0)) WHERE closed_at IS NULL;
CREATE INDEX findings_closed ON findings (closed_at) WHERE closed_at IS NOT NULL;

CREATE TABLE integrity_passes (
    node     BIGINT NOT NULL REFERENCES nodes (id),
    pass     TEXT COLLATE "C" NOT NULL,
    position TEXT COLLATE "C" NOT NULL DEFAULT '',
    began_at BIGINT NOT NULL,
    ended_at BIGINT,
    checked  BIGINT NOT NULL DEFAULT 0,
    bytes    BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (node, pass)
);
