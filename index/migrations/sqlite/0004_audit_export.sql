-- The audit says who stood behind the AE, where images went and whether it came off, and is exported.

ALTER TABLE audit ADD COLUMN user_name   TEXT    NOT NULL DEFAULT '';
ALTER TABLE audit ADD COLUMN destination TEXT    NOT NULL DEFAULT '';
ALTER TABLE audit ADD COLUMN outcome     TEXT    NOT NULL DEFAULT 'success' CHECK (outcome IN ('success', 'minor', 'serious'));
ALTER TABLE audit ADD COLUMN instances   INTEGER NOT NULL DEFAULT 0;
-- A query: its SOP class, and the identifier in Explicit VR Little Endian where it is not too long.
ALTER TABLE audit ADD COLUMN sop_class   TEXT    NOT NULL DEFAULT '';
ALTER TABLE audit ADD COLUMN query       BLOB    NOT NULL DEFAULT x'';

-- Where the audit is exported to. Rows of audit up to position have been; node holds the lease. seen_at: when a node last had it.
CREATE TABLE audit_targets (
    id          INTEGER PRIMARY KEY,
    target      TEXT    NOT NULL UNIQUE,
    position    INTEGER NOT NULL,
    node        INTEGER REFERENCES nodes (id),
    lease_until INTEGER NOT NULL DEFAULT 0,
    fence       INTEGER NOT NULL DEFAULT 0,
    seen_at     INTEGER NOT NULL DEFAULT 0,
    error       TEXT    NOT NULL DEFAULT ''
) STRICT;
