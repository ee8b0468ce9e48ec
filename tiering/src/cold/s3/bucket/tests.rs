//! Buckets as they are met, and what is made of them.

use aws_sdk_s3::types::{
    Event, FilterRule, FilterRuleName, IntelligentTieringConfiguration, NotificationConfiguration, NotificationConfigurationFilter,
    PublicAccessBlockConfiguration, QueueConfiguration, S3KeyFilter,
};
use aws_sdk_s3::types::{
    ExpirationStatus, LifecycleExpiration, LifecycleRule, LifecycleRuleFilter, NoncurrentVersionExpiration, Transition,
    TransitionStorageClass,
};

use super::look::{Lifecycle, Versioning};
use super::plan::{What, configuration};
use super::*;

const ARN: &str = "arn:aws:sqs:eu-central-1:1:events";
const DAYS: ArchiveDays = ArchiveDays {
    access: Some(90),
    deep: Some(180),
};
const TLS_ONLY: &str = r#"{"Statement": [{"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": ["arn:aws:s3:::b", "arn:aws:s3:::b/*"],
    "Condition": {"Bool": {"aws:SecureTransport": "false"}}}]}"#;

fn wanted() -> Wanted {
    Wanted {
        bucket: "b".to_owned(),
        root: "clinic/".to_owned(),
        archive: Some(DAYS),
        tagged: false,
        queue: Some(EventQueue {
            url: "https://sqs.eu-central-1.amazonaws.com/1/events".to_owned(),
            endpoint: None,
        }),
        holds: Holds::default(),
        region: "eu-central-1".to_owned(),
        kms_key: None,
    }
}

/// A bucket that nobody has set up, and that is as safe as can be.
fn found() -> Found {
    let block = PublicAccessBlockConfiguration::builder()
        .block_public_acls(true)
        .ignore_public_acls(true)
        .block_public_policy(true)
        .restrict_public_buckets(true);
    Found {
        tierings: Part::There(Vec::new()),
        notification: Part::There(NotificationConfiguration::builder().build()),
        lifecycle: Part::There(Lifecycle::default()),
        queue: Part::There(ARN.to_owned()),
        public_access: Part::There(Some(block.build())),
        versioning: Part::There(Versioning::Never),
        object_lock: Part::Unread,
        policy: Part::There(Some(TLS_ONLY.to_owned())),
        encrypted: Part::There(true),
    }
}

/// What the bucket is once the changes are written.
fn written(mut found: Found, changes: Vec<Change>) -> Found {
    for Change(what) in changes {
        match what {
            What::Tiering { id, root, days, tagged } => {
                let mut all = found.tierings.there().unwrap().clone();
                all.retain(|configuration| configuration.id != id);
                all.push(configuration(&id, &root, days, tagged).unwrap());
                found.tierings = Part::There(all);
            }
            What::NoTiering { id } => {
                let mut all = found.tierings.there().unwrap().clone();
                all.retain(|configuration| configuration.id != id);
                found.tierings = Part::There(all);
            }
            What::Notification { all, .. } => found.notification = Part::There(all),
            What::Lifecycle(all) => found.lifecycle = Part::There(all),
        }
    }
    found
}

fn codes(found: &Found, wanted: &Wanted) -> Vec<&'static str> {
    findings::of(found, wanted).iter().map(Finding::code).collect()
}

fn theirs(prefix: &str, days: ArchiveDays) -> IntelligentTieringConfiguration {
    configuration("theirs", prefix, days, false).unwrap()
}

fn rule(id: &str, prefix: &str) -> aws_sdk_s3::types::builders::LifecycleRuleBuilder {
    LifecycleRule::builder()
        .id(id)
        .status(ExpirationStatus::Enabled)
        .filter(LifecycleRuleFilter::builder().prefix(prefix).build())
}

fn queue(id: &str, events: &[&str], prefix: Option<&str>, arn: &str) -> QueueConfiguration {
    let rule = |prefix: &str| FilterRule::builder().name(FilterRuleName::from("Prefix")).value(prefix).build();
    let filter = prefix.map(|prefix| {
        NotificationConfigurationFilter::builder()
            .key(S3KeyFilter::builder().filter_rules(rule(prefix)).build())
            .build()
    });
    QueueConfiguration::builder()
        .id(id)
        .queue_arn(arn)
        .set_events(Some(events.iter().map(|event| Event::from(*event)).collect()))
        .set_filter(filter)
        .build()
        .unwrap()
}

#[test]
fn an_empty_bucket_lacks_three_things_and_once_they_are_written_nothing() {
    let wanted = wanted();
    assert_eq!(codes(&found(), &wanted), ["not-archived", "no-events", "stale-uploads-stay"]);
    let changes = plan::changes(&found(), &wanted);
    assert_eq!(changes.len(), 3);
    let after = written(found(), changes);
    assert_eq!(findings::of(&after, &wanted), []);
    assert_eq!(plan::changes(&after, &wanted), []);
}

#[test]
fn events_have_to_tell_of_whatever_lies_there() {
    let events: Vec<&str> = plan::EVENTS.to_vec();
    let of = |prefix: &str, suffix: Option<&str>| {
        let suffix = suffix.map(|suffix| FilterRule::builder().name(FilterRuleName::Suffix).value(suffix).build());
        let prefix = FilterRule::builder().name(FilterRuleName::Prefix).value(prefix).build();
        let rules = std::iter::once(prefix).chain(suffix).collect();
        let key = S3KeyFilter::builder().set_filter_rules(Some(rules)).build();
        let mut queue = queue(&format!("theirs-{suffix:?}", suffix = key.filter_rules().len()), &events, None, ARN);
        queue.filter = Some(NotificationConfigurationFilter::builder().key(key).build());
        queue
    };
    let there = |queues: Vec<QueueConfiguration>| Found {
        notification: Part::There(NotificationConfiguration::builder().set_queue_configurations(Some(queues)).build()),
        ..found()
    };
    let holding = |instances, adopted| Wanted {
        holds: Holds { instances, adopted },
        ..wanted()
    };
    let (packs, instances, adopted) = (holding(false, false), holding(true, false), holding(true, true));
    let lacks = |queues: Vec<QueueConfiguration>, wanted: &Wanted| codes(&there(queues), wanted).contains(&"no-events");
    let zip = || of("clinic/", Some(".zip"));
    assert!(!lacks(vec![zip()], &packs));
    assert!(lacks(vec![zip()], &instances));
    assert!(!lacks(vec![zip(), of("clinic/", Some(".dcm"))], &instances));
    assert!(!lacks(vec![of("clinic/", None)], &instances));
    // What was adopted may lie anywhere, and be called anything.
    assert!(lacks(vec![of("clinic/", None)], &adopted));
    assert!(lacks(vec![of("", Some(".dcm"))], &adopted));
    assert!(!lacks(vec![of("", None)], &adopted));
    for wanted in [packs, instances, adopted] {
        let after = written(found(), plan::changes(&found(), &wanted));
        assert_eq!(findings::of(&after, &wanted), []);
    }
}

#[test]
fn without_archive_and_events_only_stale_uploads_are_looked_after_and_ours_goes() {
    let modest = Wanted {
        archive: None,
        queue: None,
        ..wanted()
    };
    assert_eq!(codes(&found(), &modest), ["stale-uploads-stay"]);
    let before = written(found(), plan::changes(&found(), &wanted()));
    assert_eq!(codes(&before, &modest), ["archives-otherwise"]);
    let after = written(before.clone(), plan::changes(&before, &modest));
    assert_eq!(after.tierings, Part::There(Vec::new()));
    assert_eq!(after.notification.there().unwrap().queue_configurations(), []);
    assert_eq!(codes(&after, &modest), Vec::<&str>::new());
}

#[test]
fn entries_of_others_stay_as_they_are() {
    let wanted = wanted();
    let expiry = LifecycleExpiration::builder().days(30).build();
    let rules = vec![rule("logs", "logs/").expiration(expiry).build().unwrap()];
    let queues = vec![queue("theirs", &["s3:ObjectCreated:*"], None, "arn:aws:sqs:eu-central-1:1:other")];
    let before = Found {
        tierings: Part::There(vec![theirs("logs/", DAYS)]),
        notification: Part::There(
            NotificationConfiguration::builder()
                .set_queue_configurations(Some(queues.clone()))
                .build(),
        ),
        lifecycle: Part::There(Lifecycle {
            rules: rules.clone(),
            minimum: Some("varies_by_storage_class".into()),
        }),
        ..found()
    };
    let after = written(before.clone(), plan::changes(&before, &wanted));
    assert_eq!(findings::of(&after, &wanted), []);
    let lifecycle = after.lifecycle.there().unwrap();
    assert_eq!((&lifecycle.rules[..1], lifecycle.rules.len()), (&rules[..], 2));
    assert_eq!(lifecycle.minimum, before.lifecycle.there().unwrap().minimum);
    let notifications = after.notification.there().unwrap().queue_configurations();
    assert_eq!((&notifications[..1], notifications.len()), (&queues[..], 2));
    assert_eq!(after.tierings.there().unwrap().len(), 2);
}

#[test]
#[allow(deprecated)]
fn beside_rules_of_the_first_version_ours_has_its_prefix_as_they_have() {
    let first = LifecycleRule::builder().id("old").prefix("logs/").status(ExpirationStatus::Enabled);
    let before = Found {
        lifecycle: Part::There(Lifecycle {
            rules: vec![first.build().unwrap()],
            minimum: None,
        }),
        ..found()
    };
    let after = written(before.clone(), plan::changes(&before, &wanted()));
    let ours = after.lifecycle.there().unwrap().rules.last().unwrap().clone();
    assert_eq!((ours.prefix(), ours.filter()), (Some("clinic/"), None));
    assert_eq!(findings::of(&after, &wanted()), []);
}

#[test]
fn what_others_have_set_up_is_enough() {
    let wanted = wanted();
    let found = Found {
        tierings: Part::There(vec![theirs("", DAYS)]),
        notification: Part::There(
            NotificationConfiguration::builder()
                .queue_configurations(queue("a", &["s3:ObjectRestore:*"], Some("clin"), ARN))
                .queue_configurations(queue("b", &["s3:IntelligentTiering"], None, ARN))
                .build(),
        ),
        lifecycle: Part::There(Lifecycle {
            rules: vec![
                rule("all", "")
                    .abort_incomplete_multipart_upload(aws_sdk_s3::types::AbortIncompleteMultipartUpload::builder().build())
                    .build()
                    .unwrap(),
            ],
            minimum: None,
        }),
        ..found()
    };
    assert_eq!(findings::of(&found, &wanted), []);
    assert_eq!(plan::changes(&found, &wanted), []);
}

#[test]
fn events_of_another_queue_prefix_or_kind_are_none() {
    for (events, prefix, arn) in [
        (&["s3:ObjectRestore:*"][..], None, "arn:aws:sqs:eu-central-1:1:other"),
        (&["s3:ObjectRestore:*"], Some("clinic/1.2"), ARN),
        (&["s3:ObjectCreated:*"], None, ARN),
    ] {
        let there = NotificationConfiguration::builder().queue_configurations(queue("a", events, prefix, arn));
        let found = Found {
            notification: Part::There(there.build()),
            ..found()
        };
        assert!(codes(&found, &wanted()).contains(&"no-events"), "{events:?} {prefix:?} {arn}");
    }
}

#[test]
fn what_archives_packs_earlier_than_the_configuration_says_is_told() {
    let early = |access, deep| ArchiveDays { access, deep };
    let late = Wanted {
        archive: Some(early(Some(200), None)),
        queue: None,
        ..wanted()
    };
    for (prefix, days, told) in [
        ("", early(Some(90), None), true),
        ("clinic/1.2", early(Some(90), None), true),
        ("", early(None, Some(180)), true),
        ("", early(Some(300), None), false),
        ("ward/", early(Some(90), None), false),
    ] {
        let ours = configuration(&late.id(), &late.root, late.archive.unwrap(), false).unwrap();
        let found = Found {
            tierings: Part::There(vec![ours, theirs(prefix, days)]),
            ..found()
        };
        assert_eq!(codes(&found, &late).contains(&"archives-otherwise"), told, "{prefix} {days:?}");
        assert!(!codes(&found, &late).contains(&"not-archived"));
    }
}

#[test]
fn once_a_rule_forbids_the_archive_the_filter_goes_by_the_tag_and_back_again() {
    let tagged = Wanted { tagged: true, ..wanted() };
    let plain = written(found(), plan::changes(&found(), &wanted()));
    assert_eq!(codes(&plain, &tagged), ["archives-forbidden"]);
    let changes = plan::changes(&plain, &tagged);
    assert!(changes.len() == 1 && Bucket::goes_by_tags(&changes[0]));
    assert!(
        changes[0].to_string().contains("of what is tagged filmroom-archive=yes"),
        "{}",
        changes[0]
    );
    let after = written(plain, changes);
    assert_eq!(findings::of(&after, &tagged), []);
    assert_eq!(plan::changes(&after, &tagged), []);
    // Without such a rule new packs have no tag, and would not be archived.
    assert_eq!(codes(&after, &wanted()), ["not-archived"]);
    let back = plan::changes(&after, &wanted());
    assert!(back.len() == 1 && !Bucket::goes_by_tags(&back[0]));
    assert_eq!(findings::of(&written(after, back), &wanted()), []);
    // Somebody else's configuration that goes by no tag is told as well.
    let found = Found {
        tierings: Part::There(vec![
            configuration(&tagged.id(), &tagged.root, DAYS, true).unwrap(),
            theirs("clinic/1.2", DAYS),
        ]),
        ..found()
    };
    assert!(codes(&found, &tagged).contains(&"archives-forbidden"));
    assert!(!codes(&found, &tagged).contains(&"not-archived"));
}

#[test]
fn lifecycle_rules_that_touch_our_objects_are_told() {
    let expires = || LifecycleExpiration::builder().days(30).build();
    let marker = LifecycleExpiration::builder().expired_object_delete_marker(true).build();
    let moves = |class: TransitionStorageClass| Transition::builder().days(1).storage_class(class).build();
    let disabled = rule("x", "").expiration(expires()).status(ExpirationStatus::Disabled);
    for (rule, code) in [
        (rule("x", "").expiration(expires()), Some("expires")),
        (rule("x", "clinic/1.2").expiration(expires()), Some("expires")),
        (
            rule("x", "clinic/").transitions(moves(TransitionStorageClass::Glacier)),
            Some("transitions"),
        ),
        (rule("x", "").transitions(moves(TransitionStorageClass::IntelligentTiering)), None),
        (rule("x", "").expiration(marker), None),
        (rule("x", "ward/").expiration(expires()), None),
        (disabled, None),
    ] {
        let found = Found {
            lifecycle: Part::There(Lifecycle {
                rules: vec![rule.build().unwrap()],
                minimum: None,
            }),
            ..found()
        };
        let codes = codes(&found, &wanted());
        assert_eq!(codes.iter().find(|code| matches!(**code, "expires" | "transitions")).copied(), code);
    }
}

#[test]
fn what_is_dangerous_for_patient_data_is_told_and_is_no_reason_to_fail() {
    let public =
        r#"{"Statement": {"Effect": "Allow", "Principal": {"AWS": ["*"]}, "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/*"}}"#;
    let partly = PublicAccessBlockConfiguration::builder().block_public_acls(true).build();
    for (dangerous, expected) in [
        (
            Found {
                public_access: Part::There(None),
                ..found()
            },
            "public-access-not-blocked",
        ),
        (
            Found {
                public_access: Part::There(Some(partly)),
                ..found()
            },
            "public-access-not-blocked",
        ),
        (
            Found {
                policy: Part::There(Some(public.to_owned())),
                ..found()
            },
            "public-policy",
        ),
        (
            Found {
                policy: Part::There(None),
                ..found()
            },
            "plain-http-allowed",
        ),
        (
            Found {
                versioning: Part::There(Versioning::Enabled),
                ..found()
            },
            "versions-stay",
        ),
        (
            Found {
                encrypted: Part::There(false),
                ..found()
            },
            "not-encrypted",
        ),
        (
            Found {
                lifecycle: Part::Unsupported,
                ..found()
            },
            "unsupported",
        ),
    ] {
        let told = findings::of(&dangerous, &wanted());
        let finding = told.iter().find(|finding| finding.code() == expected);
        assert_eq!(finding.unwrap().severity(), Severity::Warning, "{expected}");
    }
    let ends = NoncurrentVersionExpiration::builder().noncurrent_days(30).build();
    let kept = Found {
        versioning: Part::There(Versioning::Enabled),
        lifecycle: Part::There(Lifecycle {
            rules: vec![rule("x", "").noncurrent_version_expiration(ends).build().unwrap()],
            minimum: None,
        }),
        ..found()
    };
    assert!(!codes(&kept, &wanted()).contains(&"versions-stay"));
}

#[test]
fn the_policy_has_what_is_missing_each_on_its_resource() {
    let denied = [
        Action::RestoreObject,
        Action::GetObject,
        Action::ListBucket,
        Action::ReceiveMessage,
        Action::KmsDecrypt,
    ];
    let policy = policy::allowing(&denied, &wanted(), None);
    let expected = serde_json::json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": ["s3:GetObject", "s3:RestoreObject"], "Resource": "arn:aws:s3:::b/clinic/*" },
        { "Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": "arn:aws:s3:::b" },
        { "Effect": "Allow", "Action": ["sqs:ReceiveMessage"], "Resource": "arn:aws:sqs:eu-central-1:1:events" },
        { "Effect": "Allow", "Action": ["kms:Decrypt"], "Resource": "*" },
    ]});
    assert_eq!(policy, expected);
}

#[test]
fn what_may_not_be_read_is_missing_if_the_node_needs_it_and_a_warning_if_only_the_look_does() {
    let closed = Found {
        tierings: Part::Denied,
        encrypted: Part::Denied,
        ..found()
    };
    let denied: Vec<Action> = closed
        .permissions()
        .filter(|(_, allowed)| !allowed)
        .map(|(action, _)| action)
        .collect();
    let severity = |action| Finding::Denied(action).severity();
    assert_eq!(
        denied,
        [Action::GetIntelligentTieringConfiguration, Action::GetEncryptionConfiguration]
    );
    assert_eq!(severity(denied[0]), Severity::Missing);
    assert_eq!(severity(denied[1]), Severity::Warning);
    assert!(!codes(&closed, &wanted()).contains(&"not-archived"));
}
