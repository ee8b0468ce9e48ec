-- Patients that are one, and studies that are another patient's than their bytes say: an overlay, which never changes what was
-- received. The PostgreSQL twin of this file has the same tables and columns.

-- patient is where a study is found; said is the patient whom its bytes name, where that is another one. A study's patient follows
-- from said, from the relinks of the study and from the merges of the patient.
ALTER TABLE studies ADD COLUMN said INTEGER REFERENCES patients (id);
CREATE INDEX studies_by_said ON studies (said) WHERE said IS NOT NULL;

-- The patient who is left of all that were merged with this one, himself for that one. NULL: nobody was merged.
ALTER TABLE patients ADD COLUMN survivor INTEGER REFERENCES patients (id);
CREATE INDEX patients_by_survivor ON patients (survivor) WHERE survivor IS NOT NULL;

-- What was decided, for ever. A merge takes a patient away into another one; a relink gives a study to a patient, the latest one in
-- force holds. overlay names it in the journal too; message is the HL7 message that it came with, empty where a person decided.
CREATE TABLE patient_overlays (
    id           INTEGER PRIMARY KEY,
    overlay      BLOB    NOT NULL UNIQUE CHECK (length(overlay) = 16),
    kind         TEXT    NOT NULL CHECK (kind IN ('merge', 'relink')),
    patient      INTEGER REFERENCES patients (id),
    study_uid    TEXT    NOT NULL DEFAULT '',
    into_patient INTEGER NOT NULL REFERENCES patients (id),
    state        TEXT    NOT NULL CHECK (state IN ('in_force', 'undone')),
    reason       TEXT    NOT NULL,
    actor        TEXT    NOT NULL,
    message      TEXT    NOT NULL DEFAULT '',
    at           INTEGER NOT NULL,
    undone_at    INTEGER,
    undone_by    TEXT    NOT NULL DEFAULT '',
    undone_why   TEXT    NOT NULL DEFAULT '',
    CHECK ((kind = 'merge') = (patient IS NOT NULL)),
    CHECK ((kind = 'relink') = (study_uid <> ''))
) STRICT;
CREATE UNIQUE INDEX patient_overlays_merged ON patient_overlays (patient) WHERE kind = 'merge' AND state = 'in_force';
CREATE INDEX patient_overlays_into ON patient_overlays (into_patient);
CREATE INDEX patient_overlays_by_study ON patient_overlays (study_uid, at) WHERE kind = 'relink';
CREATE INDEX patient_overlays_by_patient ON patient_overlays (patient) WHERE kind = 'merge';
CREATE INDEX patient_overlays_by_message ON patient_overlays (message) WHERE message <> '';

-- What a person decided about a conflict; empty while it is open, or where it was closed before this was written down.
ALTER TABLE conflicts ADD COLUMN decision TEXT NOT NULL DEFAULT '';
CREATE INDEX conflicts_open_by_study ON conflicts (study_uid) WHERE resolved_at IS NULL;
