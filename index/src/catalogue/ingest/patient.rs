//! A patient on record and what an object says of him: pure comparison.

use super::super::columns::{PatientColumns, PatientIdentity};

/// A patient on record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in super::super) struct PatientRow {
    pub(in super::super) id: i64,
    pub(in super::super) columns: PatientColumns,
    /// Nothing of this patient is served: the columns describe nobody yet.
    pub(in super::super) unserved: bool,
}

/// Two statements about one patient.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in super::super) struct Conflict {
    pub(in super::super) kind: &'static str,
    pub(in super::super) on_record: String,
    pub(in super::super) arrived: String,
}

/// What an object that is served changes in its patient's columns, and what it contradicts. A value on record stays; one that
/// is missing is filled in.
pub(in super::super) fn compare(row: &PatientRow, arrived: &PatientColumns) -> (Option<PatientColumns>, Vec<Conflict>) {
    let on_record = &row.columns;
    if on_record.identity != arrived.identity {
        let conflict = Conflict {
            kind: "patient_of_study",
            on_record: describe(&on_record.identity),
            arrived: describe(&arrived.identity),
        };
        return (None, vec![conflict]);
    }
    if row.unserved {
        return ((on_record != arrived).then(|| arrived.clone()), Vec::new());
    }
    let mut conflicts = Vec::new();
    let mut merged = on_record.clone();
    if merged.name_folded.is_empty() {
        merged.name.clone_from(&arrived.name);
        merged.name_folded.clone_from(&arrived.name_folded);
    } else if !arrived.name_folded.is_empty() && arrived.name_folded != merged.name_folded {
        conflicts.push(Conflict {
            kind: "name",
            on_record: on_record.name.clone(),
            arrived: arrived.name.clone(),
        });
    }
    if merged.birth_date.is_empty() {
        merged.birth_date.clone_from(&arrived.birth_date);
    } else if !arrived.birth_date.is_empty() && arrived.birth_date != merged.birth_date {
        conflicts.push(Conflict {
            kind: "birth_date",
            on_record: on_record.birth_date.clone(),
            arrived: arrived.birth_date.clone(),
        });
    }
    if merged.sex.is_empty() {
        merged.sex.clone_from(&arrived.sex);
    }
    ((merged != *on_record).then_some(merged), conflicts)
}

fn describe(identity: &PatientIdentity) -> String {
    match (identity.patient_id.as_str(), identity.issuer.as_str()) {
        ("", _) => "no Patient ID".to_owned(),
        (id, "") => id.to_owned(),
        (id, issuer) => format!("{id} of {issuer}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(name: &str, birth_date: &str) -> PatientColumns {
        PatientColumns {
            identity: PatientIdentity {
                patient_id: "P1".to_owned(),
                issuer: "HOSPITAL".to_owned(),
                own_study: String::new(),
            },
            name: name.to_owned(),
            name_folded: crate::query::fold::fold_name(name),
            birth_date: birth_date.to_owned(),
            sex: String::new(),
        }
    }

    fn row(name: &str, birth_date: &str) -> PatientRow {
        PatientRow {
            id: 1,
            columns: columns(name, birth_date),
            unserved: false,
        }
    }

    #[test]
    fn spelling_is_no_conflict_and_another_name_or_birth_date_is() {
        assert_eq!(
            compare(&row("Müller^Jo", "19700101"), &columns("MULLER^JO^^", "19700101")),
            (None, vec![])
        );
        let (change, conflicts) = compare(&row("Müller^Jo", "19700101"), &columns("Maier^Jo", "19700102"));
        assert_eq!(change, None);
        assert_eq!(conflicts.iter().map(|c| c.kind).collect::<Vec<_>>(), ["name", "birth_date"]);
    }

    #[test]
    fn what_is_missing_is_filled_in_and_nothing_said_contradicts_nothing() {
        assert_eq!(
            compare(&row("", ""), &columns("A^B", "19700101")),
            (Some(columns("A^B", "19700101")), vec![])
        );
        assert_eq!(compare(&row("A^B", "19700101"), &columns("", "")), (None, vec![]));
    }

    #[test]
    fn a_patient_of_whom_nothing_is_served_is_described_by_the_first_object_that_is() {
        let unserved = PatientRow {
            unserved: true,
            ..row("Wrong^Name", "19700101")
        };
        assert_eq!(compare(&unserved, &columns("A^B", "")), (Some(columns("A^B", "")), vec![]));
    }

    #[test]
    fn another_patient_in_a_study_is_one_conflict() {
        let mut other = columns("Maier^Jo", "19700102");
        other.identity.issuer = String::new();
        let (change, conflicts) = compare(&row("Müller^Jo", "19700101"), &other);
        assert_eq!(change, None);
        assert_eq!(conflicts.len(), 1);
        assert_eq!(conflicts[0].on_record, "P1 of HOSPITAL");
        assert_eq!(conflicts[0].arrived, "P1");
    }
}
