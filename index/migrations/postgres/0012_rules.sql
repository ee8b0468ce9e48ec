-- Rules go by series, and say of packs whether S3 may archive them. The SQLite twin of this file has the same tables and columns.

-- The AE that sent the first object of the series: no rule asks a million objects.
ALTER TABLE series ADD COLUMN source TEXT COLLATE "C" NOT NULL DEFAULT '';
UPDATE series SET source = first.source
    FROM (SELECT DISTINCT ON (o.series) o.series, o.source FROM objects o ORDER BY o.series, o.id) first WHERE first.series = series.id;

-- Offloads that somebody asked for come before what is quiet, and are found without looking through that.
CREATE INDEX series_nodes_requested ON series_nodes (node, last_received) WHERE state = 'unpacked' AND offload_requested = 1;

-- The object tag filmroom-archive that the pack was last known to have in the cold store; NULL: none, or nobody knows.
ALTER TABLE packs ADD COLUMN archive_tag TEXT COLLATE "C" CHECK (archive_tag IN ('yes', 'no'));

-- At most one row: the walk over all packs that brings their tags in line with the rules. Packs up to position are done; rules names
-- them by a digest; node, lease_until and fence say who walks; finished_at is by the clock of the nodes.
CREATE TABLE tag_walks (
    id          BIGINT PRIMARY KEY CHECK (id = 1),
    rules       TEXT COLLATE "C" NOT NULL,
    position    BIGINT NOT NULL DEFAULT 0,
    finished_at BIGINT,
    node        BIGINT REFERENCES nodes (id),
    lease_until BIGINT NOT NULL DEFAULT 0,
    fence       BIGINT NOT NULL DEFAULT 0
);
