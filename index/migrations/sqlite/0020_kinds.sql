-- What nearly all objects share is on record once: a row of objects names its kind. The PostgreSQL twin of this file has the same tables and columns.

-- What objects are in the words of others: SOP Class, Transfer Syntax, and the AE that sent them. Rows are neither changed nor removed.
CREATE TABLE kinds (
    id              INTEGER PRIMARY KEY,
    sop_class_uid   TEXT    NOT NULL,
    transfer_syntax TEXT    NOT NULL,
    source          TEXT    NOT NULL,
    UNIQUE (sop_class_uid, transfer_syntax, source)
) STRICT;
INSERT INTO kinds (sop_class_uid, transfer_syntax, source) SELECT DISTINCT sop_class_uid, transfer_syntax, source FROM objects;

-- The table is made anew (https://sqlite.org/lang_altertable.html, "Making Other Kinds Of Table Schema Changes"): without columns its pages would keep the
-- room, and rows that come later never use it. Migrations run without foreign keys, so that what refers to the table does so afterwards as before.
-- counterpart is the version that this one superseded, or the copy that is kept instead of it. pack refers to packs; it is no foreign key because a pack may be
-- dissolved and an index on it would be as long as the table.
CREATE TABLE objects_made (
    id               INTEGER PRIMARY KEY,
    series           INTEGER NOT NULL REFERENCES series (id),
    object_id        BLOB    NOT NULL UNIQUE CHECK (length(object_id) = 16),
    sop_instance_uid TEXT    NOT NULL,
    kind             INTEGER NOT NULL REFERENCES kinds (id),
    instance_number  INTEGER,
    state            TEXT    NOT NULL CHECK (state IN ('served', 'superseded', 'rejected', 'quarantined', 'deleted')),
    reason           TEXT    NOT NULL DEFAULT '',
    counterpart      BLOB,
    sha256           BLOB             CHECK (length(sha256) = 32),
    crc32            INTEGER,
    length           INTEGER NOT NULL,
    received_at      INTEGER NOT NULL,
    header           BLOB    NOT NULL,
    header_partial   INTEGER NOT NULL CHECK (header_partial IN (0, 1)),
    pack             INTEGER,
    pack_offset      INTEGER,
    CHECK ((pack IS NULL) = (pack_offset IS NULL))
) STRICT;
INSERT INTO objects_made (id, series, object_id, sop_instance_uid, kind, instance_number, state, reason, counterpart, sha256, crc32, length, received_at,
                          header, header_partial, pack, pack_offset)
SELECT o.id, o.series, o.object_id, o.sop_instance_uid,
       (SELECT ki.id FROM kinds ki
        WHERE ki.sop_class_uid = o.sop_class_uid AND ki.transfer_syntax = o.transfer_syntax AND ki.source = o.source),
       o.instance_number, o.state, o.reason, o.counterpart, o.sha256, o.crc32, o.length, o.received_at, o.header, o.header_partial, o.pack, o.pack_offset
FROM objects o ORDER BY o.id;
DROP TABLE objects;
ALTER TABLE objects_made RENAME TO objects;
-- At most one served version of a SOP Instance UID, and all versions of one, in a single index: NULLs are distinct.
CREATE UNIQUE INDEX objects_by_sop_instance ON objects (sop_instance_uid, (CASE WHEN state = 'served' THEN 1 END));
CREATE INDEX objects_by_series ON objects (series);
CREATE INDEX objects_quarantined ON objects (received_at) WHERE state = 'quarantined';
