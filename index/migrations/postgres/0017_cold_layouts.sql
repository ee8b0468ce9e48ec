-- Cold objects that are no packs of ours: one instance each, or adopted from what filled the bucket before. The SQLite twin of this
-- file has the same tables and columns.

-- A row of packs is one cold object. layout: a ZIP of several instances, one instance's file as it is, or one that another program put, whatever its
-- key. manifest is the key of the manifest that tells of it, where several objects share one; NULL: the one whose key follows from cold_key.
-- etag is what the store called the bytes of a foreign object when it was adopted: another one means other bytes.
ALTER TABLE packs ADD COLUMN layout   TEXT COLLATE "C" NOT NULL DEFAULT 'pack' CHECK (layout IN ('pack', 'instance', 'foreign'));
ALTER TABLE packs ADD COLUMN manifest TEXT COLLATE "C";
ALTER TABLE packs ADD COLUMN etag     TEXT COLLATE "C";
CREATE INDEX packs_by_manifest ON packs (manifest) WHERE manifest IS NOT NULL;

-- The digests of a foreign object's instance are learnt when it is first read whole.
ALTER TABLE objects ALTER COLUMN sha256 DROP NOT NULL;
ALTER TABLE objects ALTER COLUMN crc32 DROP NOT NULL;
