-- Rules go by series, and say of packs whether S3 may archive them. The PostgreSQL twin of this file has the same tables and columns.

-- The AE that sent the first object of the series: no rule asks a million objects.
ALTER TABLE series ADD COLUMN source TEXT NOT NULL DEFAULT '';
UPDATE series SET source = coalesce((SELECT o.source FROM objects o WHERE o.series = series.id ORDER BY o.id LIMIT 1), '');

-- Offloads that somebody asked for come before what is quiet, and are found without looking through that.
CREATE INDEX series_nodes_requested ON series_nodes (node, last_received) WHERE state = 'unpacked' AND offload_requested = 1;

-- The object tag filmroom-archive that the pack was last known to have in the cold store; NULL: none, or nobody knows.
ALTER TABLE packs ADD COLUMN archive_tag TEXT CHECK (archive_tag IN ('yes', 'no'));

-- At most one row: the walk over all packs that brings their tags in line with the rules. Packs up to position are done; rules names
-- them by a digest; node, lease_until and fence say who walks; finished_at is by the clock of the nodes.
CREATE TABLE tag_walks (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    rules       TEXT    NOT NULL,
    position    INTEGER NOT NULL DEFAULT 0,
    finished_at INTEGER,
    node        INTEGER REFERENCES nodes (id),
    lease_until INTEGER NOT NULL DEFAULT 0,
    fence       INTEGER NOT NULL DEFAULT 0
) STRICT;
