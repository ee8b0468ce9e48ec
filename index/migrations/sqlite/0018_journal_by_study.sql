-- When a deletion ends, what the journal says of its study beyond UIDs goes.
CREATE INDEX journal_by_study ON journal (study_uid);
