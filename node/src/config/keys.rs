//! The keys that a configuration may have, and the nearest of them to one that is misspelt.

/// Keys of each section; `ae`, `user` and `rule` are the lists `[[ae]]`, `[[user]]` and `[[rule]]`.
const KNOWN: &[(&str, &[&str])] = &[
    ("node", &["ae_title", "data_dir"]),
    (
        "dicom",
        &[
            "listen",
            "tls_listen",
            "aliases",
            "check_called_ae",
            "max_associations",
            "unknown_ae",
            "user_identity",
            "accept_unknown_sop_classes",
            "max_pdu",
            "artim_timeout",
            "idle_timeout",
            "read_timeout",
            "write_timeout",
            "connect_timeout",
            "find_max_answers",
            "find_timeout",
        ],
    ),
    ("tls", &["cert", "key", "client_ca", "client_auth", "ca", "profile"]),
    ("catalogue", &["url"]),
    (
        "hot",
        &[
            "high_watermark",
            "low_watermark",
            "evict_after",
            "reserve",
            "recall_budget",
            "page_cache",
        ],
    ),
    (
        "cold",
        &[
            "url",
            "endpoint",
            "region",
            "layout",
            "offload_after",
            "kms_key",
            "access_key_id",
            "secret_access_key_file",
            "timeout",
            "attempts",
            "check_interval",
            "deep_archive_is_offline",
            "events_queue",
            "events_endpoint",
        ],
    ),
    ("cold.archive", &["access_days", "deep_days"]),
    ("scrub", &["hot_every", "cold_every", "rate", "repair"]),
    ("retrieve", &["pending_interval", "wait"]),
    ("delivery", &["expire"]),
    (
        "cost",
        &[
            "currency",
            "source",
            "standard",
            "frequent",
            "infrequent",
            "archive_instant",
            "archive_access",
            "deep_archive_access",
            "monitoring",
            "put",
            "expedited_requests",
            "expedited",
        ],
    ),
    ("commitment", &["after", "expire", "quiet"]),
    ("delete", &["retention", "grace"]),
    ("bandwidth", &["upload", "download", "retrieve"]),
    ("migration", &["associations", "images_per_second", "retry"]),
    ("http", &["listen"]),
    ("log", &["format", "level"]),
    (
        "audit",
        &["syslog", "tls_ca", "tls_cert", "tls_key", "file", "start", "max_lag", "keep"],
    ),
    (
        "ae",
        &[
            "title",
            "address",
            "from",
            "allow",
            "destinations",
            "users",
            "duplicates",
            "issuer_of_patient_id",
            "partial_series",
            "may_reject",
            "transfer_syntaxes",
            "tls",
            "tls_server_name",
            "tls_ca",
            "certificate",
            "max_associations",
            "restore",
            "restore_budget_per_day",
            "retrieve_wait",
            "deliver_later",
        ],
    ),
    ("user", &["name", "passcode_hash"]),
    (
        "rule",
        &[
            "name",
            "modality",
            "sop_class",
            "study_description",
            "patient_age",
            "source",
            "study_age",
            "evict_after",
            "archive",
            "offload_after",
            "layout",
        ],
    ),
];

/// The name of a section that stands within another.
pub(super) fn within(section: &str, inner: &str) -> String {
    format!("{section}.{inner}")
}

/// Whether a section has this name.
pub(super) fn is_section(name: &str) -> bool {
    KNOWN.iter().any(|(known, _)| *known == name)
}

/// The keys of a section; one that is not known is a problem, which names the nearest.
pub(super) fn known_keys(section: &str, place: &str, problems: &mut Vec<String>) -> Option<&'static [&'static str]> {
    let found = KNOWN.iter().find(|(name, _)| *name == section).map(|(_, keys)| *keys);
    if found.is_none() {
        let nearest = nearest(section, KNOWN.iter().map(|(name, _)| *name));
        problems.push(format!("{place}: there is no section [{section}]: did you mean [{nearest}]?"));
    }
    found
}

/// The same of a key among those of its section.
pub(super) fn check_key(section: &str, key: &str, keys: &[&str], place: &str, problems: &mut Vec<String>) -> bool {
    if keys.contains(&key) {
        return true;
    }
    let nearest = nearest(key, keys.iter().copied());
    problems.push(format!("{place}: [{section}] has no key {key}: did you mean {nearest}?"));
    false
}

fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> &'a str {
    known.min_by_key(|candidate| edit_distance(word, candidate)).unwrap_or_default()
}

/// Levenshtein's distance, by one row.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b.chars()) {
            let above = *cell;
            left = (left + 1).min(above + 1).min(diagonal + usize::from(x != y));
            diagonal = above;
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}
