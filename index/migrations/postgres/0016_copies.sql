-- A catalogue that is copied from the embedded database to PostgreSQL. The SQLite twin of this file has the same tables and columns.
-- At most one row, on either side. A source is written to until closed_at; from then on only the target counts. A target may be used
-- when closed_at says that it is complete.
CREATE TABLE copies (
    id         BIGINT PRIMARY KEY CHECK (id = 1),
    copy       UUID   NOT NULL,
    role       TEXT   COLLATE "C" NOT NULL CHECK (role IN ('source', 'target')),
    peer       TEXT   COLLATE "C" NOT NULL,
    started_at BIGINT NOT NULL,
    closed_at  BIGINT
);

-- What a target does without while it is filled: its indexes and constraints, in the order in which they come back.
CREATE TABLE copy_definitions (
    position   BIGINT PRIMARY KEY,
    definition TEXT   COLLATE "C" NOT NULL
);
