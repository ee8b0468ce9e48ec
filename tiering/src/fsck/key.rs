//! What a key of the cold store names, by its shape alone. Pure.

use crate::adopt::record;
use crate::pack::is_instance_name;
use crate::rebuild::PATIENTS;

/// What lies under a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Named {
    /// `<study>/<series>/<id>.zip`, or `<study>/<series>/<SOPInstanceUID>.<hash>.dcm`
    Pack,
    /// `<study>/<series>/<id>.json.zst`
    Manifest,
    /// `<study>/journal-<id>.json`, or the same about patients
    Journal,
    /// `<study>/adopted-<id>.json.zst`
    Adopted,
    /// Nothing of ours
    Foreign,
}

/// Reads a key.
pub(super) fn named(key: &str) -> Named {
    let parts: Vec<&str> = key.split('/').collect();
    match parts.as_slice() {
        [folder, name] if (is_uid(folder) || *folder == PATIENTS) && name.starts_with("journal-") && name.ends_with(".json") => {
            Named::Journal
        }
        [study, name] if is_uid(study) && name.starts_with(record::PREFIX) && name.ends_with(record::SUFFIX) => Named::Adopted,
        [study, series, name] if is_uid(study) && is_uid(series) && (name.ends_with(".zip") || is_instance_name(name)) => Named::Pack,
        [study, series, name] if is_uid(study) && is_uid(series) && name.ends_with(".json.zst") => Named::Manifest,
        _ => Named::Foreign,
    }
}

/// Whether a key below our prefix is one of ours: an adoption passes over it.
pub(crate) fn is_ours(key: &str) -> bool {
    named(key) != Named::Foreign || key.strip_prefix(PATIENTS).is_some_and(|rest| rest.starts_with('/'))
}

/// The study that a key belongs to; empty for none.
pub(super) fn study_of(key: &str) -> &str {
    match key.split_once('/') {
        Some((study, _)) if is_uid(study) => study,
        _ => "",
    }
}

fn is_uid(text: &str) -> bool {
    filmroom_index::model::Uid::parse(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_told_by_its_shape() {
        for (key, expected) in [
            ("1.2/3.4/0a.zip", Named::Pack),
            ("1.2/3.4/0a.superseded.zip", Named::Pack),
            ("1.2/3.4/5.6.0123456789abcdef.dcm", Named::Pack),
            ("1.2/3.4/5.6.0123456789abcdef.superseded.dcm", Named::Pack),
            ("1.2/3.4/5.6.dcm", Named::Foreign),
            ("1.2/3.4/5.6.0123456789abcdeF.dcm", Named::Foreign),
            ("1.2/3.4/0a.json.zst", Named::Manifest),
            ("1.2/journal-0a.json", Named::Journal),
            ("patients/journal-0a.json", Named::Journal),
            ("patients/3.4/0a.zip", Named::Foreign),
            ("1.2/journal-0a.txt", Named::Foreign),
            ("1.2/adopted-0a.json.zst", Named::Adopted),
            ("1.2/adopted-0a.json", Named::Foreign),
            ("1.2/x/0a.zip", Named::Foreign),
            ("x/3.4/0a.zip", Named::Foreign),
            ("1.2/3.4/5.6/0a.zip", Named::Foreign),
            ("notes.txt", Named::Foreign),
        ] {
            assert_eq!(named(key), expected, "{key}");
        }
        assert_eq!((study_of("1.2/3.4/0a.zip"), study_of("x/y"), study_of("1.2")), ("1.2", "", ""));
    }
}
