-- Cold objects that are no packs of ours: one instance each, or adopted from what filled the bucket before. The PostgreSQL twin of this
-- file has the same tables and columns.

-- The digests of a foreign object's instance are learnt when it is first read whole. To allow NULL changes nothing of what lies on the disk, so the
-- definition is rewritten where it stands (https://sqlite.org/lang_altertable.html, "Making Other Kinds Of Table Schema Changes"): what refers to the
-- table, its indexes, and the triggers of a copy stay as they are. The ALTER TABLE below lets every connection read the definitions anew.
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(replace(sql,
    'sha256           BLOB    NOT NULL CHECK', 'sha256           BLOB             CHECK'),
    'crc32            INTEGER NOT NULL', 'crc32            INTEGER')
WHERE type = 'table' AND name = 'objects';
PRAGMA writable_schema = OFF;

-- A row of packs is one cold object. layout: a ZIP of several instances, one instance's file as it is, or one that another program put, whatever its
-- key. manifest is the key of the manifest that tells of it, where several objects share one; NULL: the one whose key follows from cold_key.
-- etag is what the store called the bytes of a foreign object when it was adopted: another one means other bytes.
ALTER TABLE packs ADD COLUMN layout   TEXT NOT NULL DEFAULT 'pack' CHECK (layout IN ('pack', 'instance', 'foreign'));
ALTER TABLE packs ADD COLUMN manifest TEXT;
ALTER TABLE packs ADD COLUMN etag     TEXT;
CREATE INDEX packs_by_manifest ON packs (manifest) WHERE manifest IS NOT NULL;
