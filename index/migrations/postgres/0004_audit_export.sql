-- The audit says who stood behind the AE, where images went and whether it came off, and is exported.

ALTER TABLE audit ADD COLUMN user_name   TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE audit ADD COLUMN destination TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE audit ADD COLUMN outcome     TEXT COLLATE "C" NOT NULL DEFAULT 'success' CHECK (outcome IN ('success', 'minor', 'serious'));
ALTER TABLE audit ADD COLUMN instances   BIGINT NOT NULL DEFAULT 0;
-- A query: its SOP class, and the identifier in Explicit VR Little Endian where it is not too long.
ALTER TABLE audit ADD COLUMN sop_class   TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE audit ADD COLUMN query       BYTEA  NOT NULL DEFAULT '';

-- Where the audit is exported to. Rows of audit up to position have been; node holds the lease. seen_at: when a node last had it.
CREATE TABLE audit_targets (
    id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    target      TEXT COLLATE "C" NOT NULL UNIQUE,
    position    BIGINT NOT NULL,
    node        BIGINT REFERENCES nodes (id),
    lease_until BIGINT NOT NULL DEFAULT 0,
    fence       BIGINT NOT NULL DEFAULT 0,
    seen_at     BIGINT NOT NULL DEFAULT 0,
    error       TEXT COLLATE "C" NOT NULL DEFAULT ''
);
