//! An instance without its bulk data (PS3.4 Z.1.3): pixels, overlays, curves, waveforms, spectra, encapsulated documents.
//!
//! The header that the catalogue holds is all of it, for most instances. Where it holds a part only, or of a long binary value only the
//! place (a private header of a scanner, a lookup table), the object is read, up to its Pixel Data and no more than 4 MiB of values.

use std::io;

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use filmroom_index::dataset::{DataSet, Value};
use filmroom_index::header::{Header, Scanner};
use filmroom_index::model::Uid;
use filmroom_tiering::hot::DataSetReader;

/// Bytes that are read from an object at a time.
const CHUNK: usize = 64 * 1024;

/// The data set of a header without bulk data; none if the header does not hold all the rest.
pub(super) fn strip(header: Header) -> Option<DataSet> {
    if header.partial {
        return None;
    }
    without_bulk(&header.attributes)
}

/// The data set of an object without bulk data.
///
/// # Errors
/// The object cannot be read, or has more than 4 MiB before its Pixel Data.
pub(super) async fn read(mut object: DataSetReader, transfer_syntax: &Uid) -> io::Result<DataSet> {
    let broken = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    let mut scanner = Scanner::of_message(transfer_syntax);
    while !scanner.is_past_header() {
        match object.next(CHUNK).await? {
            Some(chunk) => scanner.push(&chunk).map_err(broken)?,
            None => break,
        }
    }
    let header = match scanner.is_past_header() {
        true => scanner.so_far(),
        false => scanner.finish().map_err(broken)?,
    };
    let too_long = || io::Error::new(io::ErrorKind::InvalidData, "more attributes before the Pixel Data than can be sent");
    strip(header).ok_or_else(too_long)
}

fn without_bulk(data_set: &DataSet) -> Option<DataSet> {
    let mut kept = DataSet::new();
    for (tag, element) in data_set.iter().filter(|(tag, _)| !is_bulk(*tag)) {
        let value = match &element.value {
            Value::Bulk { .. } => return None,
            Value::Items(items) => Value::Items(items.iter().map(without_bulk).collect::<Option<_>>()?),
            value => value.clone(),
        };
        kept.put(tag, element.vr, value);
    }
    Some(kept)
}

fn is_bulk(tag: Tag) -> bool {
    match tag {
        tags::PIXEL_DATA | tags::FLOAT_PIXEL_DATA | tags::DOUBLE_FLOAT_PIXEL_DATA | tags::PIXEL_DATA_PROVIDER_URL => true,
        tags::SPECTROSCOPY_DATA | tags::ENCAPSULATED_DOCUMENT | tags::WAVEFORM_DATA => true,
        // Overlay Data, Curve Data, Audio Sample Data of the repeating groups.
        Tag(group @ 0x6000..=0x60ff, 0x3000) | Tag(group @ 0x5000..=0x50ff, 0x3000 | 0x200c) => group.is_multiple_of(2),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dicom_core::VR;

    const PRIVATE: Tag = Tag(0x0029, 0x1010);

    fn header(elements: &[(Tag, Value)]) -> Header {
        let mut attributes = DataSet::new();
        attributes.put_text(tags::SOP_INSTANCE_UID, VR::UI, "1.2.3");
        for (tag, value) in elements {
            attributes.put(*tag, VR::OB, value.clone());
        }
        Header {
            attributes,
            partial: false,
        }
    }

    #[test]
    fn what_is_bulk_data_is_left_out_at_every_depth() {
        let bulk = || Value::Bulk { offset: 100, length: 5000 };
        let small = || Value::Bytes(vec![1, 2]);
        let item = header(&[(tags::WAVEFORM_DATA, bulk()), (PRIVATE, small())]).attributes;
        let whole = header(&[
            (tags::WAVEFORM_SEQUENCE, Value::Items(vec![item])),
            (tags::ENCAPSULATED_DOCUMENT, bulk()),
            (tags::SPECTROSCOPY_DATA, bulk()),
            (Tag(0x6002, 0x3000), small()),
            (Tag(0x6002, 0x0010), small()),
            (Tag(0x5000, 0x200c), bulk()),
        ]);
        let stripped = strip(whole).unwrap();
        let left: Vec<Tag> = stripped.iter().map(|(tag, _)| tag).collect();
        assert_eq!(left, [tags::SOP_INSTANCE_UID, tags::WAVEFORM_SEQUENCE, Tag(0x6002, 0x0010)]);
        let item: Vec<Tag> = stripped.items(tags::WAVEFORM_SEQUENCE)[0].iter().map(|(tag, _)| tag).collect();
        assert_eq!(item, [tags::SOP_INSTANCE_UID, PRIVATE]);
    }

    #[test]
    fn a_header_that_lacks_something_else_is_not_enough() {
        let long = Value::Bulk { offset: 100, length: 5000 };
        assert_eq!(strip(header(&[(PRIVATE, long.clone())])), None);
        let item = header(&[(PRIVATE, long)]).attributes;
        assert_eq!(strip(header(&[(tags::REFERENCED_SERIES_SEQUENCE, Value::Items(vec![item]))])), None);
        let partial = Header {
            partial: true,
            ..header(&[])
        };
        assert_eq!(strip(partial), None);
    }
}
