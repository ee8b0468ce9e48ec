-- Adopted objects that are packed as our own (`offload --repack`), and what is learnt of adopted objects. The PostgreSQL twin of this file has the same
-- tables and columns.

-- original_of: a foreign object from which this object was packed. The object is a member of another row since: nothing needs this one, which stays on record
-- for as long as it is left where it lies, so that no adoption takes it again and a deletion finds it.
ALTER TABLE packs ADD COLUMN original_of INTEGER;
CREATE INDEX packs_by_original ON packs (original_of) WHERE original_of IS NOT NULL;

-- Series whose adopted objects are to be packed, and who works on which. asked_at is by the clock of the node that was asked: what was seen archived since is
-- not looked at again. remove_originals: they are erased once what was packed is verified; restore: what is archived is brought back. It is due when the
-- database's clock has reached next_at and a node's look_at. restoring_until: until when it waits for that.
CREATE TABLE repacks (
    series           INTEGER PRIMARY KEY REFERENCES series (id),
    remove_originals INTEGER NOT NULL CHECK (remove_originals IN (0, 1)),
    restore          INTEGER NOT NULL CHECK (restore IN (0, 1)),
    asked_at         INTEGER NOT NULL,
    node             INTEGER REFERENCES nodes (id),
    attempts         INTEGER NOT NULL DEFAULT 0,
    next_at          INTEGER NOT NULL DEFAULT 0,
    look_at          INTEGER NOT NULL DEFAULT 0,
    lease_until      INTEGER NOT NULL DEFAULT 0,
    fence            INTEGER NOT NULL DEFAULT 0,
    restoring_until  INTEGER,
    error            TEXT    NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX repacks_due ON repacks (next_at);

-- Keys under which such packs are being put, from before their first byte until they are on record as packs: what a crash leaves is found by them. manifest
-- as in packs.
CREATE TABLE repack_keys (
    cold_key TEXT    PRIMARY KEY,
    series   INTEGER NOT NULL REFERENCES series (id),
    manifest TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX repack_keys_by_series ON repack_keys (series);
CREATE INDEX repack_keys_by_manifest ON repack_keys (manifest) WHERE manifest IS NOT NULL;

-- Adopted objects that were read whole for the first time, until the journal tells of their digests. learnt_at is by the clock of the node that read.
CREATE TABLE learnt_digests (
    object    INTEGER PRIMARY KEY REFERENCES objects (id),
    learnt_at INTEGER NOT NULL
) STRICT;
CREATE INDEX learnt_digests_by_time ON learnt_digests (learnt_at);
