//! What a bucket lacks of what the configuration needs, and what of it is dangerous for patient data: pure.

use std::fmt;

use aws_sdk_s3::types::{ExpirationStatus, IntelligentTieringStatus, LifecycleRule, PublicAccessBlockConfiguration};
use filmroom_index::catalogue::ArchiveTag;
use serde_json::Value;

use super::look::{Retention, Versioning};
use super::plan::{ends_uploads, is_satisfied, missing_events, rule_reach};
use super::{Action, Found, Part, Reach, Wanted, archive_days, reach};
use crate::cold::ArchiveDays;

/// Something that a bucket lacks, or that is dangerous.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Finding {
    /// An action is not allowed
    Denied(Action),
    /// The packs are not archived when the configuration says
    NotArchived {
        /// When they should be
        wanted: ArchiveDays,
        /// When they are; none: never
        found: Option<ArchiveDays>,
    },
    /// An Intelligent-Tiering configuration archives packs that a rule forbids to archive
    ArchivesForbidden {
        /// Its id
        id: String,
    },
    /// Events do not go to the queue
    NoEvents {
        /// Those that are missing
        missing: Vec<&'static str>,
    },
    /// No rule ends multipart uploads whose process died
    StaleUploadsStay,
    /// The server has no such setting
    Unsupported {
        /// Which
        setting: &'static str,
    },
    /// An Intelligent-Tiering configuration archives packs, or some of them, earlier than the configuration says, or though it does not say so
    ArchivesOtherwise {
        /// Its id
        id: String,
        /// When
        days: ArchiveDays,
    },
    /// A lifecycle rule removes objects of ours
    Expires {
        /// Its id
        rule: String,
    },
    /// A lifecycle rule moves objects of ours to another storage class
    Transitions {
        /// Its id
        rule: String,
        /// The class
        class: String,
    },
    /// The public is not locked out of the bucket, whatever its policy says
    PublicAccessNotBlocked {
        /// What is not set
        open: Vec<&'static str>,
    },
    /// The policy lets everybody in
    PublicPolicy,
    /// The policy does not refuse requests without TLS
    PlainHttpAllowed,
    /// Older versions of objects stay for ever
    VersionsStay,
    /// Object Lock keeps what is deleted on purpose
    ObjectLock(Retention),
    /// Objects are not encrypted unless a request says so
    NotEncrypted,
}

/// How bad a finding is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// The node does not have what it needs
    Missing,
    /// It works, and somebody should look
    Warning,
}

impl Finding {
    /// How bad it is.
    pub fn severity(&self) -> Severity {
        match self {
            Finding::Denied(action) if action.is_for_looking() || action.is_for_erasing() => Severity::Warning,
            Finding::Denied(_)
            | Finding::NotArchived { .. }
            | Finding::ArchivesForbidden { .. }
            | Finding::NoEvents { .. }
            | Finding::StaleUploadsStay => Severity::Missing,
            _ => Severity::Warning,
        }
    }

    /// Its name for scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Finding::Denied(_) => "denied",
            Finding::NotArchived { .. } => "not-archived",
            Finding::ArchivesForbidden { .. } => "archives-forbidden",
            Finding::NoEvents { .. } => "no-events",
            Finding::StaleUploadsStay => "stale-uploads-stay",
            Finding::Unsupported { .. } => "unsupported",
            Finding::ArchivesOtherwise { .. } => "archives-otherwise",
            Finding::Expires { .. } => "expires",
            Finding::Transitions { .. } => "transitions",
            Finding::PublicAccessNotBlocked { .. } => "public-access-not-blocked",
            Finding::PublicPolicy => "public-policy",
            Finding::PlainHttpAllowed => "plain-http-allowed",
            Finding::VersionsStay => "versions-stay",
            Finding::ObjectLock(_) => "object-lock",
            Finding::NotEncrypted => "not-encrypted",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::Denied(action) if action.is_for_looking() => {
                write!(f, "{} is not allowed: this check cannot look for what is dangerous there", action.iam())
            }
            Finding::Denied(action) if action.is_for_erasing() => {
                write!(f, "{} is not allowed: what is deleted on purpose stays in the bucket", action.iam())
            }
            Finding::Denied(action) => write!(f, "{} is not allowed", action.iam()),
            Finding::NotArchived { wanted, found } => write!(
                f,
                "Intelligent-Tiering should archive the packs ({}) and {}: run filmroom bucket setup",
                Days(wanted),
                match found {
                    Some(found) => format!("does otherwise ({})", Days(found)),
                    None => "does not".to_owned(),
                }
            ),
            Finding::ArchivesForbidden { id } => write!(
                f,
                "the Intelligent-Tiering configuration {id:?} does not go by the tag {}: it archives packs that a rule forbids to archive: run filmroom bucket \
                 setup, or take it out if it is not filmroom's",
                ArchiveTag::KEY
            ),
            Finding::NoEvents { missing } => write!(
                f,
                "the bucket does not send {} to the queue, or not of everything that is there: run filmroom bucket setup",
                missing.join(", ")
            ),
            Finding::StaleUploadsStay => f.write_str(
                "no lifecycle rule aborts multipart uploads that were never completed; their parts are billed: run filmroom bucket setup",
            ),
            Finding::Unsupported { setting } => write!(f, "the server has no {setting}"),
            Finding::ArchivesOtherwise { id, days } => write!(
                f,
                "the Intelligent-Tiering configuration {id:?} archives packs too ({}), otherwise than [cold.archive] says",
                Days(days)
            ),
            Finding::Expires { rule } => write!(f, "the lifecycle rule {rule:?} DELETES objects of ours"),
            Finding::Transitions { rule, class } => write!(
                f,
                "the lifecycle rule {rule:?} moves objects of ours to {class}, from where the node brings nothing back"
            ),
            Finding::PublicAccessNotBlocked { open } => write!(f, "public access is not blocked: {} is not set", open.join(", ")),
            Finding::PublicPolicy => f.write_str("the bucket's policy lets everybody in: manifests hold patient data"),
            Finding::PlainHttpAllowed => {
                f.write_str("the bucket's policy does not deny requests without TLS (aws:SecureTransport): patient data may travel in clear")
            }
            Finding::VersionsStay => f.write_str(
                "versioning is on and no lifecycle rule ends noncurrent versions: whatever is written again, or deleted by others than filmroom delete, stays, is billed, \
                 and keeps patient data",
            ),
            Finding::ObjectLock(Retention { rule: Some((mode, days)) }) => write!(
                f,
                "Object Lock keeps every object for {days} days ({mode}): what is deleted on purpose is erased no earlier, and filmroom deletions list says until when"
            ),
            Finding::ObjectLock(Retention { rule: None }) => f.write_str(
                "Object Lock is on: what somebody locks by hand is erased no earlier than its lock ends, and filmroom deletions list says until when",
            ),
            Finding::NotEncrypted => f.write_str("the bucket has no default encryption"),
        }
    }
}

/// Days as people read them.
pub(super) struct Days<'a>(pub(super) &'a ArchiveDays);

impl fmt::Display for Days<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access = self.0.access.map(|days| format!("Archive Access after {days} days"));
        let deep = self.0.deep.map(|days| format!("Deep Archive Access after {days} days"));
        f.write_str(&access.into_iter().chain(deep).collect::<Vec<_>>().join(", "))
    }
}

/// Everything about a bucket's settings. What may not be read is told by the permissions.
pub(super) fn of(found: &Found, wanted: &Wanted) -> Vec<Finding> {
    let mut findings = Vec::new();
    tiering(found, wanted, &mut findings);
    if let Some(missing) = missing_events(found, wanted).filter(|missing| !missing.is_empty()) {
        findings.push(Finding::NoEvents { missing });
    }
    lifecycle(found, wanted, &mut findings);
    public_access(&found.public_access, &mut findings);
    policy(found, &mut findings);
    if let Part::There(Some(retention)) = &found.object_lock {
        findings.push(Finding::ObjectLock(retention.clone()));
    }
    match found.encrypted {
        Part::There(false) => findings.push(Finding::NotEncrypted),
        Part::Unsupported => findings.push(Finding::Unsupported {
            setting: "default encryption",
        }),
        _ => {}
    }
    findings
}

fn tiering(found: &Found, wanted: &Wanted, findings: &mut Vec<Finding>) {
    let all = match &found.tierings {
        Part::There(all) => all,
        // It never archives then.
        Part::Unsupported => &Vec::new(),
        _ => return,
    };
    let effective = archive_days(all, &wanted.root, wanted.archived_tag());
    if let Some(days) = wanted
        .archive
        .filter(|days| !is_satisfied(all, wanted) && (!wanted.tagged || effective != Some(*days)))
    {
        findings.push(Finding::NotArchived {
            wanted: days,
            found: effective,
        });
    }
    for configuration in all {
        let touches = configuration.status == IntelligentTieringStatus::Enabled
            && [Some(ArchiveTag::Yes), None]
                .iter()
                .any(|tag| reach(configuration.filter.as_ref(), &wanted.root, *tag) != Reach::Nothing);
        // By itself, and as if it held for everything.
        let days = archive_days(std::slice::from_ref(&whole(configuration)), "", None).filter(|_| touches);
        let Some(days) = days else { continue };
        let forbidden = reach(configuration.filter.as_ref(), &wanted.root, Some(ArchiveTag::No)) != Reach::Nothing;
        if wanted.tagged && forbidden {
            let id = configuration.id.clone();
            findings.push(Finding::ArchivesForbidden { id });
        }
        let earlier = |theirs: Option<u32>, ours: Option<u32>| theirs.is_some_and(|theirs| ours.is_none_or(|ours| theirs < ours));
        let ours = wanted.archive.unwrap_or_default();
        let is_ours = configuration.id == wanted.id() && wanted.archive.is_some();
        if !is_ours && (earlier(days.access, ours.access) || earlier(days.deep, ours.deep)) {
            findings.push(Finding::ArchivesOtherwise {
                id: configuration.id.clone(),
                days,
            });
        }
    }
}

/// The same configuration without its filter.
fn whole(configuration: &aws_sdk_s3::types::IntelligentTieringConfiguration) -> aws_sdk_s3::types::IntelligentTieringConfiguration {
    let mut whole = configuration.clone();
    whole.filter = None;
    whole
}

fn lifecycle(found: &Found, wanted: &Wanted, findings: &mut Vec<Finding>) {
    let rules = match &found.lifecycle {
        Part::There(lifecycle) => &lifecycle.rules,
        Part::Unsupported => {
            findings.push(Finding::Unsupported {
                setting: "lifecycle rules",
            });
            return;
        }
        _ => return,
    };
    let mut ends_versions = false;
    for rule in rules.iter().filter(|rule| rule.status == ExpirationStatus::Enabled) {
        let reach = rule_reach(rule, &wanted.root);
        if reach == Reach::Nothing {
            continue;
        }
        ends_versions |= reach == Reach::All && rule.noncurrent_version_expiration.is_some();
        // Markers of what was deleted before are no objects.
        let expires = rule
            .expiration()
            .is_some_and(|expiration| expiration.days.is_some() || expiration.date.is_some());
        if expires {
            findings.push(Finding::Expires { rule: name(rule) });
        }
        for transition in rule.transitions() {
            let class = transition.storage_class().map_or("another class", |class| class.as_str());
            if class != "INTELLIGENT_TIERING" {
                findings.push(Finding::Transitions {
                    rule: name(rule),
                    class: class.to_owned(),
                });
            }
        }
    }
    if !ends_uploads(rules, &wanted.root) {
        findings.push(Finding::StaleUploadsStay);
    }
    if found.versioning == Part::There(Versioning::Enabled) && !ends_versions {
        findings.push(Finding::VersionsStay);
    }
}

fn name(rule: &LifecycleRule) -> String {
    rule.id().unwrap_or("without an id").to_owned()
}

fn public_access(found: &Part<Option<PublicAccessBlockConfiguration>>, findings: &mut Vec<Finding>) {
    let block = match found {
        Part::There(block) => block.as_ref(),
        Part::Unsupported => {
            findings.push(Finding::Unsupported {
                setting: "public access block",
            });
            return;
        }
        _ => return,
    };
    let set = |get: fn(&PublicAccessBlockConfiguration) -> Option<bool>| block.and_then(get) == Some(true);
    let all = [
        ("BlockPublicAcls", set(|block| block.block_public_acls)),
        ("IgnorePublicAcls", set(|block| block.ignore_public_acls)),
        ("BlockPublicPolicy", set(|block| block.block_public_policy)),
        ("RestrictPublicBuckets", set(|block| block.restrict_public_buckets)),
    ];
    let open: Vec<_> = all.into_iter().filter(|(_, set)| !set).map(|(name, _)| name).collect();
    if !open.is_empty() {
        findings.push(Finding::PublicAccessNotBlocked { open });
    }
}

fn policy(found: &Found, findings: &mut Vec<Finding>) {
    let text = match &found.policy {
        Part::There(text) => text.as_deref().unwrap_or_default(),
        Part::Unsupported => {
            findings.push(Finding::Unsupported { setting: "bucket policy" });
            return;
        }
        _ => return,
    };
    let policy: Value = serde_json::from_str(text).unwrap_or_default();
    let statements = list(policy.get("Statement"));
    if statements.iter().any(|statement| is_public(statement)) {
        findings.push(Finding::PublicPolicy);
    }
    if !statements.iter().any(|statement| denies_plain_http(statement)) {
        findings.push(Finding::PlainHttpAllowed);
    }
}

/// One or many, as policies have them.
fn list(value: Option<&Value>) -> Vec<&Value> {
    match value {
        Some(Value::Array(values)) => values.iter().collect(),
        Some(value) => vec![value],
        None => Vec::new(),
    }
}

fn has_effect(statement: &Value, effect: &str) -> bool {
    statement.get("Effect").is_some_and(|found| found == effect)
}

fn is_everybody(statement: &Value) -> bool {
    let principal = statement.get("Principal");
    let named = principal.and_then(|principal| principal.get("AWS"));
    list(principal).into_iter().chain(list(named)).any(|principal| principal == "*")
}

fn is_public(statement: &Value) -> bool {
    has_effect(statement, "Allow") && is_everybody(statement) && statement.get("Condition").is_none()
}

/// Denies everybody every action on the objects where `aws:SecureTransport` is false.
fn denies_plain_http(statement: &Value) -> bool {
    let secure = statement
        .get("Condition")
        .and_then(|condition| condition.get("Bool")?.get("aws:SecureTransport"));
    let is_false = secure.is_some_and(|secure| list(Some(secure)).into_iter().any(|value| value == "false" || value == false));
    let everything = list(statement.get("Action"))
        .into_iter()
        .any(|action| action == "s3:*" || action == "*");
    let objects = list(statement.get("Resource")).into_iter().filter_map(Value::as_str);
    let on_objects = objects.into_iter().any(|resource| resource == "*" || resource.ends_with("/*"));
    has_effect(statement, "Deny") && is_everybody(statement) && is_false && everything && on_objects
}
