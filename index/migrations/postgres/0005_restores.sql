-- Restores out of S3's archive tiers, and what is known of packs there. The SQLite twin of this file has the same tables and
-- columns.

-- archive_clock is our estimate of the last access as S3 counts it, by the clocks of the nodes: the upload, a GET, the end of a
-- restore; never later than the real one as far as we know. damaged_at is set while the cold store's copy is known to be lost or
-- altered: verified stays said, and what asks for a good copy looks here too.
ALTER TABLE packs ADD COLUMN archive_clock BIGINT NOT NULL DEFAULT 0;
ALTER TABLE packs ADD COLUMN damaged_at    BIGINT;
ALTER TABLE packs ADD COLUMN damage        TEXT COLLATE "C" NOT NULL DEFAULT '';
UPDATE packs SET archive_clock = verified_at WHERE verified_at IS NOT NULL;
CREATE INDEX packs_damaged ON packs (id) WHERE damaged_at IS NOT NULL;

-- A row is one restore of one pack, shared by everybody who waits for it. wanted is how fast it is wanted, accepted how fast S3 said
-- that it will be, empty before; archived_in is the tier that it comes from; requester is whose daily budget it counts against, unless
-- it ended without a request to S3. wanted_at, requested_at, expected_at, ended_at and look_at are by the clocks of the nodes, next_at
-- and lease_until by the database's: it is looked at when either has come. node holds the lease.
CREATE TABLE restores (
    id           BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pack         BIGINT NOT NULL REFERENCES packs (id),
    state        TEXT COLLATE "C" NOT NULL CHECK (state IN ('wanted', 'restoring', 'readable', 'failed')),
    wanted       TEXT COLLATE "C" NOT NULL CHECK (wanted IN ('bulk', 'standard', 'expedited')),
    accepted     TEXT COLLATE "C" NOT NULL DEFAULT '' CHECK (accepted IN ('', 'bulk', 'standard', 'expedited')),
    archived_in  TEXT COLLATE "C" NOT NULL CHECK (archived_in IN ('archive_access', 'deep_archive_access')),
    bytes        BIGINT NOT NULL CHECK (bytes >= 0),
    requester    TEXT COLLATE "C" NOT NULL,
    wanted_at    BIGINT NOT NULL,
    requested_at BIGINT,
    expected_at  BIGINT NOT NULL,
    ended_at     BIGINT,
    node         BIGINT REFERENCES nodes (id),
    attempts     BIGINT NOT NULL DEFAULT 0,
    next_at      BIGINT NOT NULL DEFAULT 0,
    look_at      BIGINT NOT NULL DEFAULT 0,
    lease_until  BIGINT NOT NULL DEFAULT 0,
    fence        BIGINT NOT NULL DEFAULT 0,
    error        TEXT COLLATE "C" NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX restores_open ON restores (pack) WHERE state IN ('wanted', 'restoring');
CREATE INDEX restores_by_pack ON restores (pack, id);
CREATE INDEX restores_by_requester ON restores (requester, wanted_at);
CREATE INDEX restores_ended ON restores (archived_in, accepted, ended_at) WHERE state = 'readable';
