-- What nearly all objects share is on record once: a row of objects names its kind. The SQLite twin of this file has the same tables and columns.

-- In the order in which ingest takes them: whoever is at it ends first, and nobody waits in a circle.
LOCK TABLE studies, series, objects IN ACCESS EXCLUSIVE MODE;

-- What objects are in the words of others: SOP Class, Transfer Syntax, and the AE that sent them. Rows are neither changed nor removed.
CREATE TABLE kinds (
    id              INTEGER GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sop_class_uid   TEXT COLLATE "C" NOT NULL,
    transfer_syntax TEXT COLLATE "C" NOT NULL,
    source          TEXT COLLATE "C" NOT NULL,
    UNIQUE (sop_class_uid, transfer_syntax, source)
);
INSERT INTO kinds (sop_class_uid, transfer_syntax, source) SELECT DISTINCT sop_class_uid, transfer_syntax, source FROM objects;

-- What refers to objects, and to what they refer. The target of a copy that is not complete has none of that.
CREATE TEMPORARY TABLE objects_references ON COMMIT DROP AS
SELECT conrelid::regclass::text AS name, quote_ident(conname) AS reference, pg_get_constraintdef(oid) AS definition FROM pg_constraint
WHERE contype = 'f' AND 'objects'::regclass IN (conrelid, confrelid);
DO $$
DECLARE found RECORD;
BEGIN
    FOR found IN SELECT * FROM objects_references LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %s', found.name, found.reference);
    END LOOP;
END $$;

-- The table is made anew: without columns its pages would keep the room. What has a fixed length comes first, and the columns of 8 bytes lie on multiples of 8,
-- so that nothing is lost between them. kind refers to kinds; it is no foreign key because each row that is stored would lock the row there.
-- counterpart is the version that this one superseded, or the copy that is kept instead of it. pack refers to packs; it is no foreign key because a pack may be
-- dissolved and an index on it would be as long as the table.
ALTER TABLE objects RENAME TO objects_before;
CREATE TABLE objects (
    id               BIGINT  NOT NULL,
    series           BIGINT  NOT NULL,
    length           BIGINT  NOT NULL,
    received_at      BIGINT  NOT NULL,
    kind             INTEGER NOT NULL,
    header_partial   INTEGER NOT NULL CHECK (header_partial IN (0, 1)),
    object_id        UUID    NOT NULL,
    instance_number  BIGINT,
    crc32            BIGINT,
    pack             BIGINT,
    pack_offset      BIGINT,
    counterpart      UUID,
    sop_instance_uid TEXT COLLATE "C" NOT NULL,
    state            TEXT COLLATE "C" NOT NULL CHECK (state IN ('served', 'superseded', 'rejected', 'quarantined', 'deleted')),
    reason           TEXT COLLATE "C" NOT NULL DEFAULT '',
    sha256           BYTEA CHECK (octet_length(sha256) = 32),
    header           BYTEA NOT NULL,
    CHECK ((pack IS NULL) = (pack_offset IS NULL))
);
INSERT INTO objects (id, series, length, received_at, kind, header_partial, object_id, instance_number, crc32, pack, pack_offset, counterpart,
                     sop_instance_uid, state, reason, sha256, header)
SELECT o.id, o.series, o.length, o.received_at,
       (SELECT ki.id FROM kinds ki
        WHERE ki.sop_class_uid = o.sop_class_uid AND ki.transfer_syntax = o.transfer_syntax AND ki.source = o.source),
       o.header_partial, o.object_id, o.instance_number, o.crc32, o.pack, o.pack_offset, o.counterpart,
       o.sop_instance_uid, o.state, o.reason, o.sha256, o.header
FROM objects_before o ORDER BY o.id;
DROP TABLE objects_before;
ALTER TABLE objects ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY;
SELECT setval(pg_get_serial_sequence('objects', 'id'), coalesce(max(id), 0) + 1, false) FROM objects;
ALTER TABLE objects ADD PRIMARY KEY (id);
-- At most one served version of a SOP Instance UID, and all versions of one, in a single index: NULLs are distinct. What a copy that is not complete holds may be
-- of several moments, and has to fit no index: it has to be begun anew.
DO $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM copies WHERE role = 'target' AND closed_at IS NULL) THEN
        ALTER TABLE objects ADD UNIQUE (object_id);
        CREATE UNIQUE INDEX objects_by_sop_instance ON objects (sop_instance_uid, (CASE WHEN state = 'served' THEN 1 END));
        CREATE INDEX objects_by_series ON objects (series);
        CREATE INDEX objects_quarantined ON objects (received_at) WHERE state = 'quarantined';
    END IF;
END $$;
DO $$
DECLARE found RECORD;
BEGIN
    FOR found IN SELECT * FROM objects_references LOOP
        EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %s %s', found.name, found.reference, found.definition);
    END LOOP;
END $$;
-- Without statistics the first searches would be planned for empty tables.
ANALYZE kinds, objects;
