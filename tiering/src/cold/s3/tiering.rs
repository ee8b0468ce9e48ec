//! The bucket's Intelligent-Tiering configurations: which of them hold for our packs, and when those are archived by them.

use aws_sdk_s3::types::{
    IntelligentTieringAccessTier, IntelligentTieringConfiguration, IntelligentTieringFilter, IntelligentTieringStatus, Tag,
};
use filmroom_index::catalogue::ArchiveTag;

use super::S3;
use super::error::classify;
use crate::cold::{ArchiveDays, ArchiveRule, ColdError};

/// A bucket may have this many configurations; who sends more pages than that is not listened to for ever.
const MAX_PAGES: usize = 1000;

impl S3 {
    pub(in crate::cold) async fn archive_rule(&self) -> Result<ArchiveRule, ColdError> {
        let (all, root) = (self.tierings().await?, self.root());
        Ok(ArchiveRule {
            allowed: archive_days(&all, &root, Some(ArchiveTag::Yes)),
            others: archive_days(&all, &root, None),
        })
    }

    /// All configurations of the bucket.
    pub(super) async fn tierings(&self) -> Result<Vec<IntelligentTieringConfiguration>, ColdError> {
        let mut all = Vec::new();
        let mut token = None;
        for _ in 0..MAX_PAGES {
            let list = self.client.list_bucket_intelligent_tiering_configurations();
            let page = list.bucket(&*self.bucket).set_continuation_token(token).send().await;
            let page = page.map_err(|error| classify(&error, &self.bucket))?;
            all.extend(page.intelligent_tiering_configuration_list.unwrap_or_default());
            token = page.next_continuation_token.filter(|_| page.is_truncated == Some(true));
            if token.is_none() {
                break;
            }
        }
        Ok(all)
    }
}

/// When what begins with `root` and has our tag is archived: the earliest day of those configurations that are enabled and hold for all of it.
pub(super) fn archive_days(configurations: &[IntelligentTieringConfiguration], root: &str, tag: Option<ArchiveTag>) -> Option<ArchiveDays> {
    let holding = configurations.iter().filter(|configuration| {
        configuration.status == IntelligentTieringStatus::Enabled && reach(configuration.filter.as_ref(), root, tag) == Reach::All
    });
    let tierings: Vec<_> = holding.flat_map(|configuration| &configuration.tierings).collect();
    let earliest = |tier: IntelligentTieringAccessTier| {
        let days = tierings.iter().filter(|tiering| tiering.access_tier == tier);
        days.filter_map(|tiering| u32::try_from(tiering.days).ok()).min()
    };
    let days = ArchiveDays {
        access: earliest(IntelligentTieringAccessTier::ArchiveAccess),
        deep: earliest(IntelligentTieringAccessTier::DeepArchiveAccess),
    };
    (days != ArchiveDays::default()).then_some(days)
}

/// How much of what begins with a prefix a filter selects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reach {
    /// Everything
    All,
    /// What begins with a longer prefix
    Part,
    /// Nothing: another prefix, or a tag that our objects do not have
    Nothing,
}

/// How much of what begins with `root` and has our tag, and no other, is selected.
pub(super) fn reach(filter: Option<&IntelligentTieringFilter>, root: &str, tag: Option<ArchiveTag>) -> Reach {
    let Some(filter) = filter else { return Reach::All };
    let and = filter.and.as_ref();
    let mut asked = filter.tag.iter().chain(and.map(|and| and.tags()).unwrap_or_default());
    let has = |asked: &Tag| asked.key() == ArchiveTag::KEY && tag.is_some_and(|tag| tag.as_str() == asked.value());
    if !asked.all(has) {
        return Reach::Nothing;
    }
    let prefix = and.and_then(|and| and.prefix()).or(filter.prefix()).unwrap_or_default();
    prefix_reach(prefix, root)
}

/// How much of what begins with `root` begins with `prefix`.
pub(super) fn prefix_reach(prefix: &str, root: &str) -> Reach {
    if root.starts_with(prefix) {
        Reach::All
    } else if prefix.starts_with(root) {
        Reach::Part
    } else {
        Reach::Nothing
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::types::{IntelligentTieringAndOperator, Tiering};

    use super::*;

    const ACCESS: IntelligentTieringAccessTier = IntelligentTieringAccessTier::ArchiveAccess;
    const DEEP: IntelligentTieringAccessTier = IntelligentTieringAccessTier::DeepArchiveAccess;

    fn configuration(
        filter: Option<IntelligentTieringFilter>,
        days: &[(IntelligentTieringAccessTier, i32)],
    ) -> IntelligentTieringConfiguration {
        let tiering =
            |(tier, days): &(IntelligentTieringAccessTier, i32)| Tiering::builder().access_tier(tier.clone()).days(*days).build().unwrap();
        IntelligentTieringConfiguration::builder()
            .id("one")
            .status(IntelligentTieringStatus::Enabled)
            .set_filter(filter)
            .set_tierings(Some(days.iter().map(tiering).collect()))
            .build()
            .unwrap()
    }

    fn prefix(prefix: &str) -> Option<IntelligentTieringFilter> {
        Some(IntelligentTieringFilter::builder().prefix(prefix).build())
    }

    fn tag() -> Tag {
        Tag::builder().key("k").value("v").build().unwrap()
    }

    fn days(access: Option<u32>, deep: Option<u32>) -> Option<ArchiveDays> {
        Some(ArchiveDays { access, deep })
    }

    #[test]
    fn a_configuration_holds_for_its_prefix_and_what_is_below() {
        let anded = |prefix: &str, tags: Option<Vec<Tag>>| {
            let and = IntelligentTieringAndOperator::builder().prefix(prefix).set_tags(tags).build();
            Some(IntelligentTieringFilter::builder().and(and).build())
        };
        for (filter, holds) in [
            (None, true),
            (Some(IntelligentTieringFilter::builder().build()), true),
            (prefix(""), true),
            (prefix("clinic"), true),
            (prefix("clinic/archive"), true),
            (prefix("clinic/archive/"), true),
            (anded("clinic/", None), true),
            (prefix("clinic/archive/1.2"), false),
            (prefix("clinic/arch/"), false),
            (prefix("ward"), false),
            (Some(IntelligentTieringFilter::builder().tag(tag()).build()), false),
            (anded("clinic/", Some(vec![tag()])), false),
        ] {
            let found = archive_days(
                &[configuration(filter.clone(), &[(ACCESS, 90), (DEEP, 180)])],
                "clinic/archive/",
                None,
            );
            assert_eq!(found, days(Some(90), Some(180)).filter(|_| holds), "{filter:?}");
        }
    }

    #[test]
    fn a_node_that_has_the_whole_bucket_is_under_configurations_of_the_whole_bucket_only() {
        assert_eq!(archive_days(&[configuration(prefix("a"), &[(ACCESS, 90)])], "", None), None);
        assert_eq!(
            archive_days(&[configuration(None, &[(ACCESS, 90)])], "", None),
            days(Some(90), None)
        );
    }

    #[test]
    fn a_configuration_with_our_tag_is_for_what_has_it() {
        let ours = |value: &str| Tag::builder().key(ArchiveTag::KEY).value(value).build().unwrap();
        let and = |tags: Vec<Tag>| {
            let and = IntelligentTieringAndOperator::builder().prefix("p/").set_tags(Some(tags)).build();
            configuration(Some(IntelligentTieringFilter::builder().and(and).build()), &[(ACCESS, 90)])
        };
        let alone = configuration(Some(IntelligentTieringFilter::builder().tag(ours("yes")).build()), &[(ACCESS, 90)]);
        for (configuration, tag, holds) in [
            (and(vec![ours("yes")]), Some(ArchiveTag::Yes), true),
            (and(vec![ours("yes")]), Some(ArchiveTag::No), false),
            (and(vec![ours("yes")]), None, false),
            (and(vec![ours("no")]), Some(ArchiveTag::Yes), false),
            (and(vec![ours("yes"), tag()]), Some(ArchiveTag::Yes), false),
            (alone.clone(), Some(ArchiveTag::Yes), true),
            (alone, Some(ArchiveTag::No), false),
        ] {
            assert_eq!(
                archive_days(std::slice::from_ref(&configuration), "p/", tag),
                days(Some(90), None).filter(|_| holds),
                "{configuration:?} {tag:?}"
            );
        }
    }

    #[test]
    fn of_several_the_earliest_day_counts_and_what_is_disabled_does_not() {
        let mut disabled = configuration(None, &[(ACCESS, 90)]);
        disabled.status = IntelligentTieringStatus::Disabled;
        let both = [
            configuration(None, &[(ACCESS, 200), (DEEP, 300)]),
            configuration(prefix("p"), &[(ACCESS, 120)]),
            disabled.clone(),
        ];
        assert_eq!(archive_days(&both, "p/", None), days(Some(120), Some(300)));
        assert_eq!(archive_days(&[disabled], "p/", None), None);
        assert_eq!(archive_days(&[configuration(None, &[])], "p/", None), None);
        assert_eq!(archive_days(&[], "p/", None), None);
    }
}
