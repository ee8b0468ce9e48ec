//! What has to be written for a bucket to be as the configuration needs it: pure. What is satisfied, by whomever, is left alone.

use std::fmt;

use aws_sdk_s3::types::{
    AbortIncompleteMultipartUpload, Event, ExpirationStatus, FilterRule, FilterRuleName, IntelligentTieringAccessTier,
    IntelligentTieringAndOperator, IntelligentTieringConfiguration, IntelligentTieringFilter, IntelligentTieringStatus, LifecycleRule,
    LifecycleRuleFilter, NotificationConfiguration, NotificationConfigurationFilter, QueueConfiguration, S3KeyFilter, Tiering,
};

use filmroom_index::catalogue::ArchiveTag;

use super::findings::Days;
use super::look::Lifecycle;
use super::{Found, Reach, Wanted, archive_days, prefix_reach, reach};
use crate::cold::ArchiveDays;
use crate::cold::s3::tags;

/// The events that the node follows.
pub(super) const EVENTS: [&str; 3] = ["s3:ObjectRestore:Post", "s3:ObjectRestore:Completed", "s3:IntelligentTiering"];

/// An upload that was not completed within so many days never will be.
const STALE_DAYS: i32 = 7;

/// Something to be written.
#[derive(Clone, PartialEq, Debug)]
pub struct Change(pub(super) What);

#[derive(Clone, PartialEq, Debug)]
pub(super) enum What {
    /// Our Intelligent-Tiering configuration
    Tiering {
        id: String,
        root: String,
        days: ArchiveDays,
        tagged: bool,
    },
    /// It goes
    NoTiering { id: String },
    /// All notifications, with our entry or without it
    Notification { all: NotificationConfiguration, ours: bool },
    /// All lifecycle rules, with ours
    Lifecycle(Lifecycle),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            What::Tiering { id, root, days, tagged } => {
                write!(f, "Intelligent-Tiering configuration {id}: {} below {root:?}", Days(days))?;
                match tagged {
                    true => write!(f, ", of what is tagged {}={}", ArchiveTag::KEY, ArchiveTag::Yes.as_str()),
                    false => Ok(()),
                }
            }
            What::NoTiering { id } => write!(f, "Intelligent-Tiering configuration {id}: removed, for there is no [cold.archive]"),
            What::Notification { ours: true, .. } => write!(f, "event notification: {} to the queue", EVENTS.join(", ")),
            What::Notification { ours: false, .. } => f.write_str("event notification: ours removed, for there is no cold.events_queue"),
            What::Lifecycle(_) => write!(
                f,
                "lifecycle rule: multipart uploads not completed after {STALE_DAYS} days are aborted"
            ),
        }
    }
}

/// Everything that has to be written.
pub(super) fn changes(found: &Found, wanted: &Wanted) -> Vec<Change> {
    let changes = [tiering(found, wanted), notification(found, wanted), lifecycle(found, wanted)];
    changes.into_iter().flatten().map(Change).collect()
}

fn tiering(found: &Found, wanted: &Wanted) -> Option<What> {
    let none = Vec::new();
    let all = found.tierings.there().unwrap_or(&none);
    match wanted.archive {
        Some(days) => (!is_satisfied(all, wanted)).then(|| What::Tiering {
            id: wanted.id(),
            root: wanted.root.clone(),
            days,
            tagged: wanted.tagged,
        }),
        None => {
            let ours = all.iter().any(|configuration| configuration.id == wanted.id());
            ours.then(|| What::NoTiering { id: wanted.id() })
        }
    }
}

/// Whether packs are archived when the configuration says: by ours, or by others' alone.
pub(super) fn is_satisfied(all: &[IntelligentTieringConfiguration], wanted: &Wanted) -> bool {
    let ours: Vec<_> = all
        .iter()
        .filter(|configuration| configuration.id == wanted.id())
        .cloned()
        .collect();
    let is_right = |some: &[IntelligentTieringConfiguration]| {
        let days = |tag| archive_days(some, &wanted.root, tag);
        days(wanted.archived_tag()) == wanted.archive && (!wanted.tagged || days(Some(ArchiveTag::No)).is_none())
    };
    is_right(&ours) || (ours.is_empty() && is_right(all))
}

/// Our configuration. None where the SDK does not take it.
pub(super) fn configuration(id: &str, root: &str, days: ArchiveDays, tagged: bool) -> Option<IntelligentTieringConfiguration> {
    let tiering = |(tier, days): (IntelligentTieringAccessTier, Option<u32>)| {
        let days = i32::try_from(days?).ok()?;
        Tiering::builder().access_tier(tier).days(days).build().ok()
    };
    let tierings = [
        (IntelligentTieringAccessTier::ArchiveAccess, days.access),
        (IntelligentTieringAccessTier::DeepArchiveAccess, days.deep),
    ];
    let prefix = (!root.is_empty()).then(|| root.to_owned());
    let tag = if tagged { Some(tags::tag(ArchiveTag::Yes)?) } else { None };
    let filter = IntelligentTieringFilter::builder();
    let filter = match (prefix, tag) {
        (None, None) => None,
        // S3 wants at least two of what it takes together.
        (Some(prefix), Some(tag)) => {
            let both = IntelligentTieringAndOperator::builder().prefix(prefix).tags(tag).build();
            Some(filter.and(both).build())
        }
        (prefix, tag) => Some(filter.set_prefix(prefix).set_tag(tag).build()),
    };
    IntelligentTieringConfiguration::builder()
        .id(id)
        .set_filter(filter)
        .status(IntelligentTieringStatus::Enabled)
        .set_tierings(Some(tierings.into_iter().filter_map(tiering).collect()))
        .build()
        .ok()
}

fn notification(found: &Found, wanted: &Wanted) -> Option<What> {
    let there = found.notification.there()?;
    let mut all = there.clone();
    let queues = all.queue_configurations.get_or_insert_with(Vec::new);
    let before = queues.len();
    let Some(missing) = missing_events(found, wanted) else {
        queues.retain(|queue| queue.id() != Some(&wanted.id()));
        return (queues.len() != before).then_some(What::Notification { all, ours: false });
    };
    if missing.is_empty() {
        return None;
    }
    let arn = found.queue.there()?;
    queues.retain(|queue| queue.id() != Some(&wanted.id()));
    let below = wanted.events_below();
    let rule = FilterRule::builder().name(FilterRuleName::Prefix).value(below).build();
    let filter = NotificationConfigurationFilter::builder()
        .key(S3KeyFilter::builder().filter_rules(rule).build())
        .build();
    let ours = QueueConfiguration::builder()
        .id(wanted.id())
        .queue_arn(arn)
        .set_events(Some(EVENTS.into_iter().map(Event::from).collect()))
        .set_filter((!below.is_empty()).then_some(filter));
    queues.push(ours.build().ok()?);
    Some(What::Notification { all, ours: true })
}

/// The events that do not come to the queue; none at all where none are wanted, or nobody can tell.
pub(super) fn missing_events(found: &Found, wanted: &Wanted) -> Option<Vec<&'static str>> {
    wanted.queue.as_ref()?;
    let (there, arn) = (found.notification.there()?, found.queue.there()?);
    let comes = |event: &str, ending: &str| {
        let family = event.rsplit_once(':').map(|(family, _)| format!("{family}:*"));
        let queues = there.queue_configurations().iter();
        queues
            .filter(|queue| queue.queue_arn() == arn && tells_all(queue.filter(), wanted.events_below(), ending))
            .flat_map(|queue| queue.events())
            .any(|told| told.as_str() == event || Some(told.as_str()) == family.as_deref())
    };
    // Of packs one entry may tell, and another one of instances.
    let comes = |event: &str| wanted.events_of().iter().all(|ending| comes(event, ending));
    Some(EVENTS.into_iter().filter(|event| !comes(event)).collect())
}

/// Whether a filter lets everything through whose key begins with `root` and ends with `ending`.
fn tells_all(filter: Option<&NotificationConfigurationFilter>, root: &str, ending: &str) -> bool {
    let rules = filter
        .and_then(|filter| filter.key())
        .map(|key| key.filter_rules())
        .unwrap_or_default();
    rules.iter().all(|rule| {
        let name = rule.name().map(|name| name.as_str().to_ascii_lowercase()).unwrap_or_default();
        let value = rule.value().unwrap_or_default();
        match name.as_str() {
            "prefix" => prefix_reach(value, root) == Reach::All,
            "suffix" => ending.ends_with(value),
            _ => false,
        }
    })
}

fn lifecycle(found: &Found, wanted: &Wanted) -> Option<What> {
    let there = found.lifecycle.there()?;
    if ends_uploads(&there.rules, &wanted.root) {
        return None;
    }
    let mut all = there.clone();
    all.rules.retain(|rule| rule.id() != Some(&wanted.id()));
    let abort = AbortIncompleteMultipartUpload::builder().days_after_initiation(STALE_DAYS).build();
    let ours = LifecycleRule::builder()
        .id(wanted.id())
        .status(ExpirationStatus::Enabled)
        .abort_incomplete_multipart_upload(abort);
    // S3 takes filters only where no rule has the prefix of the first version of lifecycle rules.
    let ours = match all.rules.iter().any(|rule| rule.filter.is_none()) {
        true => older_prefix(ours, &wanted.root),
        false => ours.filter(LifecycleRuleFilter::builder().prefix(&wanted.root).build()),
    };
    all.rules.push(ours.build().ok()?);
    Some(What::Lifecycle(all))
}

#[expect(deprecated, reason = "rules of the first version have it, and cannot be mixed with others")]
fn older_prefix(rule: aws_sdk_s3::types::builders::LifecycleRuleBuilder, root: &str) -> aws_sdk_s3::types::builders::LifecycleRuleBuilder {
    rule.prefix(root)
}

/// Whether every upload below our prefix ends some day.
pub(super) fn ends_uploads(rules: &[LifecycleRule], root: &str) -> bool {
    rules.iter().any(|rule| {
        rule.status == ExpirationStatus::Enabled
            && rule.abort_incomplete_multipart_upload().is_some()
            && rule_reach(rule, root) == Reach::All
    })
}

/// How much of what begins with `root` a rule is about. Sizes are not looked at: packs have any.
#[expect(deprecated, reason = "rules of the first version have a prefix of their own")]
pub(super) fn rule_reach(rule: &LifecycleRule, root: &str) -> Reach {
    let Some(filter) = rule.filter() else {
        return prefix_reach(rule.prefix().unwrap_or_default(), root);
    };
    let and = filter.and();
    let tag = filter.tag().or(and.and_then(|and| and.tags().first()));
    let prefix = and.and_then(|and| and.prefix()).or(filter.prefix());
    reach(
        Some(
            &IntelligentTieringFilter::builder()
                .set_prefix(prefix.map(str::to_owned))
                .set_tag(tag.cloned())
                .build(),
        ),
        root,
        None,
    )
}
