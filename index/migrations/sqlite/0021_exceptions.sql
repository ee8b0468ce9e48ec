-- Indexes of what few rows are. The PostgreSQL twin of this file makes the same.

-- Whether a series holds anything that is not served: where it does not, its counts tell whether all that is served of it is hot.
CREATE INDEX objects_unserved ON objects (series) WHERE state <> 'served';
-- What a node was offloading when it ended: it lets go of that at its start.
CREATE INDEX series_nodes_leased ON series_nodes (node) WHERE lease_until > 0;
