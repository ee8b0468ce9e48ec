-- Whether a series holds anything that is not served, which few do: where none is, its counts tell whether all that is served of it is hot. The SQLite twin of this
-- file makes the same index.
CREATE INDEX objects_unserved ON objects (series) WHERE state <> 'served';
