-- A catalogue that is copied from the embedded database to PostgreSQL. The PostgreSQL twin of this file has the same tables and columns.
-- At most one row, on either side. A source is written to until closed_at; from then on only the target counts. A target may be used
-- when closed_at says that it is complete.
CREATE TABLE copies (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    copy       BLOB    NOT NULL CHECK (length(copy) = 16),
    role       TEXT    NOT NULL CHECK (role IN ('source', 'target')),
    peer       TEXT    NOT NULL,
    started_at INTEGER NOT NULL,
    closed_at  INTEGER
) STRICT;

-- What a target does without while it is filled: its indexes and constraints, in the order in which they come back.
CREATE TABLE copy_definitions (
    position   INTEGER PRIMARY KEY,
    definition TEXT    NOT NULL
) STRICT;
