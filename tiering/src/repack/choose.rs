//! What is packed next of a series, before it is known what its bytes are. Pure.

use std::collections::BTreeSet;

use filmroom_index::catalogue::{ForeignMember, PackState};

use crate::pack::{Layout, MAX_BATCH, MAX_MEMBERS, MAX_PACK};

/// What the structure around one file takes at most, in bytes: both headers with a UID each, and the largest ZIP64 fields.
const STRUCTURE: u64 = 512;

/// The first of what is readable, in its order, that fits one pack, or one batch of instances: of one serving state, and no SOP Instance UID twice. What is too
/// large for any is alone.
pub(super) fn next(members: &[ForeignMember], layout: Layout) -> Vec<&ForeignMember> {
    let most = match layout {
        Layout::Pack => MAX_MEMBERS,
        Layout::Instance => MAX_BATCH,
    };
    let mut chosen: Vec<&ForeignMember> = Vec::new();
    let (mut instances, mut bytes) = (BTreeSet::new(), STRUCTURE);
    for member in members.iter().filter(|member| member.state == PackState::Verified) {
        let alike = chosen.first().is_none_or(|first| first.serving == member.serving);
        if !alike || instances.contains(&member.sop_instance) {
            continue;
        }
        bytes = bytes.saturating_add(member.length).saturating_add(STRUCTURE);
        if !chosen.is_empty() && (bytes > MAX_PACK || chosen.len() == most) {
            break;
        }
        instances.insert(&member.sop_instance);
        chosen.push(member);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use filmroom_index::catalogue::PackKey;
    use filmroom_index::model::{AeTitle, ObjectId, ServingState, Timestamp, Uid};

    use super::*;

    fn member(instance: u32, length: u64) -> ForeignMember {
        let uid = |text: &str| Uid::parse(text).unwrap();
        ForeignMember {
            pack: PackKey(i64::from(instance)),
            key: format!("/share/{instance}"),
            etag: String::new(),
            state: PackState::Verified,
            object: ObjectId::new(Timestamp(i64::from(instance))),
            sop_instance: uid(&format!("2.25.{instance}")),
            sop_class: uid("1.2.840.10008.5.1.4.1.1.2"),
            transfer_syntax: uid("1.2.840.10008.1.2.1"),
            instance_number: None,
            serving: ServingState::Served,
            reason: String::new(),
            counterpart: None,
            length,
            digests: None,
            received_at: Timestamp(0),
            source: AeTitle::parse("CT1").unwrap(),
        }
    }

    fn chosen(members: &[ForeignMember], layout: Layout) -> Vec<i64> {
        next(members, layout).into_iter().map(|member| member.pack.0).collect()
    }

    #[test]
    fn as_much_is_chosen_as_fits_one_pack() {
        let half = MAX_PACK / 2 - 10_000;
        let members = [member(1, half), member(2, half), member(3, half)];
        assert_eq!(chosen(&members, Layout::Pack), [1, 2]);
        assert_eq!(chosen(&members[2..], Layout::Pack), [3]);
        assert_eq!(chosen(&[member(1, 10 * MAX_PACK), member(2, 1)], Layout::Pack), [1]);
        assert_eq!(chosen(&[], Layout::Pack), [0; 0]);
        let many: Vec<ForeignMember> = (1..=600).map(|instance| member(instance, 1000)).collect();
        assert_eq!(chosen(&many, Layout::Instance).len(), MAX_BATCH);
        assert_eq!(chosen(&many, Layout::Pack).len(), 600);
    }

    #[test]
    fn what_is_archived_or_of_another_state_or_a_version_of_the_same_waits() {
        let archived = ForeignMember {
            state: PackState::ArchiveAccess,
            ..member(1, 1000)
        };
        let quarantined = ForeignMember {
            serving: ServingState::Quarantined,
            ..member(3, 1000)
        };
        let version = ForeignMember {
            pack: PackKey(9),
            ..member(2, 1000)
        };
        let members = [archived, member(2, 1000), quarantined, version, member(4, 1000)];
        assert_eq!(chosen(&members, Layout::Pack), [2, 4]);
    }
}
