-- The same tables and columns as in the SQLite twin of this file, which says what they mean.

ALTER TABLE studies ADD COLUMN said BIGINT REFERENCES patients (id);
CREATE INDEX studies_by_said ON studies (said) WHERE said IS NOT NULL;

ALTER TABLE patients ADD COLUMN survivor BIGINT REFERENCES patients (id);
CREATE INDEX patients_by_survivor ON patients (survivor) WHERE survivor IS NOT NULL;

CREATE TABLE patient_overlays (
    id           BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    overlay      UUID   NOT NULL UNIQUE,
    kind         TEXT COLLATE "C" NOT NULL CHECK (kind IN ('merge', 'relink')),
    patient      BIGINT REFERENCES patients (id),
    study_uid    TEXT COLLATE "C" NOT NULL DEFAULT '',
    into_patient BIGINT NOT NULL REFERENCES patients (id),
    state        TEXT COLLATE "C" NOT NULL CHECK (state IN ('in_force', 'undone')),
    reason       TEXT   NOT NULL,
    actor        TEXT   NOT NULL,
    message      TEXT COLLATE "C" NOT NULL DEFAULT '',
    at           BIGINT NOT NULL,
    undone_at    BIGINT,
    undone_by    TEXT   NOT NULL DEFAULT '',
    undone_why   TEXT   NOT NULL DEFAULT '',
    CHECK ((kind = 'merge') = (patient IS NOT NULL)),
    CHECK ((kind = 'relink') = (study_uid <> ''))
);
CREATE UNIQUE INDEX patient_overlays_merged ON patient_overlays (patient) WHERE kind = 'merge' AND state = 'in_force';
CREATE INDEX patient_overlays_into ON patient_overlays (into_patient);
CREATE INDEX patient_overlays_by_study ON patient_overlays (study_uid, at) WHERE kind = 'relink';
CREATE INDEX patient_overlays_by_patient ON patient_overlays (patient) WHERE kind = 'merge';
CREATE INDEX patient_overlays_by_message ON patient_overlays (message) WHERE message <> '';

ALTER TABLE conflicts ADD COLUMN decision TEXT NOT NULL DEFAULT '';
CREATE INDEX conflicts_open_by_study ON conflicts (study_uid) WHERE resolved_at IS NULL;
