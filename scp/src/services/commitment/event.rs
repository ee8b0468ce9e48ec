//! The event information of a report (PS3.4 table J.3-2, PS3.3 C.14).

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use filmroom_index::catalogue::Reference;
use filmroom_index::dataset::{DataSet, Value};
use filmroom_index::model::{AeTitle, Encoding, Uid};

use crate::dimse::Status;

/// Storage commitment request successful.
const COMPLETE: u16 = 1;
/// Storage commitment request complete, failures exist.
const FAILURES: u16 = 2;

const ITEM: Tag = Tag(0xFFFE, 0xE000);

/// Event information that is put together, item by item: encoded at once, for there may be a hundred thousand.
#[derive(Debug)]
pub(super) struct EventInformation {
    encoding: Encoding,
    committed: Vec<u8>,
    failed: Vec<u8>,
}

impl EventInformation {
    pub(super) fn new(encoding: Encoding) -> EventInformation {
        EventInformation {
            encoding,
            committed: Vec::new(),
            failed: Vec::new(),
        }
    }

    /// Adds a reference: committed, or the reason why not (PS3.3 C.14.1.1).
    pub(super) fn push(&mut self, reference: &Reference, failure: Option<Status>) {
        let mut item = DataSet::new();
        item.put_text(tags::REFERENCED_SOP_CLASS_UID, VR::UI, reference.sop_class.as_str());
        item.put_text(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, reference.sop_instance.as_str());
        let list = match failure {
            None => &mut self.committed,
            Some(reason) => {
                let value = Value::Bytes(reason.code().to_le_bytes().to_vec());
                item.put(tags::FAILURE_REASON, VR::US, value);
                &mut self.failed
            }
        };
        let content = item.encode(self.encoding);
        put_tag(self.encoding, ITEM, list);
        put_length(self.encoding, content.len(), list);
        list.extend(content);
    }

    /// Event Type ID and data set. `retrieve_ae` is where everything that is committed can be retrieved from.
    pub(super) fn finish(self, transaction: &Uid, retrieve_ae: &AeTitle) -> (u16, Vec<u8>) {
        let mut head = DataSet::new();
        head.put_text(tags::TRANSACTION_UID, VR::UI, transaction.as_str());
        if !self.committed.is_empty() {
            head.put_text(tags::RETRIEVE_AE_TITLE, VR::AE, retrieve_ae.as_str());
        }
        let event_type = if self.failed.is_empty() { COMPLETE } else { FAILURES };
        let mut bytes = head.encode(self.encoding);
        for (tag, items) in [
            (tags::FAILED_SOP_SEQUENCE, self.failed),
            (tags::REFERENCED_SOP_SEQUENCE, self.committed),
        ] {
            if !items.is_empty() {
                put_tag(self.encoding, tag, &mut bytes);
                if self.encoding != Encoding::ImplicitLittle {
                    bytes.extend_from_slice(b"SQ\0\0");
                }
                put_length(self.encoding, items.len(), &mut bytes);
                bytes.extend(items);
            }
        }
        (event_type, bytes)
    }
}

fn put_tag(encoding: Encoding, Tag(group, element): Tag, out: &mut Vec<u8>) {
    for word in [group, element] {
        out.extend(match encoding {
            Encoding::ExplicitBig => word.to_be_bytes(),
            _ => word.to_le_bytes(),
        });
    }
}

/// A length of 32 bits: a hundred thousand items have some 15 MB.
fn put_length(encoding: Encoding, length: usize, out: &mut Vec<u8>) {
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    out.extend(match encoding {
        Encoding::ExplicitBig => length.to_be_bytes(),
        _ => length.to_le_bytes(),
    });
}

#[cfg(test)]
mod tests {
    use filmroom_index::header::scan;
    use filmroom_index::model::transfer_syntax;

    use super::*;

    fn reference(instance: &str) -> Reference {
        Reference {
            sop_class: "1.2.840.10008.5.1.4.1.1.2".to_owned(),
            sop_instance: instance.to_owned(),
            read: None,
        }
    }

    fn report(syntax: &str, failed: bool) -> (u16, DataSet) {
        let syntax = Uid::parse(syntax).unwrap();
        let mut information = EventInformation::new(transfer_syntax::encoding(&syntax));
        information.push(&reference("1.5"), None);
        if failed {
            information.push(&reference("1.6"), Some(Status::NoSuchInstance));
            information.push(&reference("1.7"), None);
        }
        let (event_type, bytes) = information.finish(&Uid::parse("1.2.3").unwrap(), &AeTitle::parse("FILMROOM").unwrap());
        (event_type, scan(&bytes, &syntax).unwrap().attributes)
    }

    #[test]
    fn every_reference_is_in_the_report_once_in_every_encoding() {
        for syntax in [
            transfer_syntax::IMPLICIT_LITTLE,
            transfer_syntax::EXPLICIT_LITTLE,
            transfer_syntax::EXPLICIT_BIG,
        ] {
            let (event_type, data_set) = report(syntax, true);
            assert_eq!((event_type, data_set.text(tags::TRANSACTION_UID)), (2, Some("1.2.3")));
            assert_eq!(data_set.text(tags::RETRIEVE_AE_TITLE), Some("FILMROOM"));
            let uids = |tag| -> Vec<&str> {
                let items = data_set.items(tag);
                items
                    .iter()
                    .filter_map(|item| item.text(tags::REFERENCED_SOP_INSTANCE_UID))
                    .collect()
            };
            assert_eq!(uids(tags::REFERENCED_SOP_SEQUENCE), ["1.5", "1.7"], "{syntax}");
            assert_eq!(uids(tags::FAILED_SOP_SEQUENCE), ["1.6"], "{syntax}");
            let reason = data_set.items(tags::FAILED_SOP_SEQUENCE)[0].get(tags::FAILURE_REASON).unwrap();
            assert_eq!(reason.value, Value::Bytes(vec![0x12, 0x01]), "{syntax}");
        }
    }

    #[test]
    fn without_a_failure_there_is_no_failed_sequence() {
        let (event_type, data_set) = report(transfer_syntax::EXPLICIT_LITTLE, false);
        assert_eq!(event_type, 1);
        assert!(data_set.get(tags::FAILED_SOP_SEQUENCE).is_none());
        assert_eq!(data_set.items(tags::REFERENCED_SOP_SEQUENCE).len(), 1);
    }
}
