-- What a node was offloading when it ended: it lets go of that at its start. The SQLite twin of this file makes the same index.
CREATE INDEX series_nodes_leased ON series_nodes (node) WHERE lease_until > 0;
