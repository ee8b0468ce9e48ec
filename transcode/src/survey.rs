//! The first pass over an encapsulated object: what has to be known of its pixels before the first byte of the result is written.

use std::collections::BTreeMap;

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use filmroom_index::header::element::Syntax;

use crate::codec::{Format, MAX_FRAME};
use crate::error::Error;
use crate::input::{Input, Patience, Stored};
use crate::syntax::Compression;
use crate::walk::{Element, PIXEL_DATA, Visitor, next_fragment, walk};

/// An object has one image and icons; more than so many are no image's.
const MAX_IMAGES: usize = 64;

/// Pixel Data has a length of 32 bits, and the two highest are taken.
const MAX_NATIVE: u64 = 0xFFFF_FFFD;

/// Encapsulated images by the position of their data set: 0, or where its item starts.
pub(crate) type Images = BTreeMap<u64, Image>;

/// One encapsulated Pixel Data.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) format: Format,
    pub(crate) frames: u64,
    /// Photometric Interpretation (0028,0004) of the pixels when they are decoded, where it changes
    pub(crate) photometric: Option<&'static str>,
    /// Position and length of the Basic Offset Table's value
    pub(crate) basic_offsets: (u64, u64),
    /// The same of the Extended Offset Table (7FE0,0001)
    pub(crate) extended_offsets: (u64, u64),
    /// Without the Basic Offset Table
    pub(crate) fragments: u64,
    /// Fragments that begin like a codestream
    pub(crate) beginnings: u64,
}

impl Image {
    /// Bytes of the native Pixel Data without padding.
    pub(crate) fn length(&self) -> u64 {
        self.frames.saturating_mul(self.format.bytes())
    }
}

/// Whether a fragment begins a codestream: SOI of JPEG and JPEG-LS, SOC of JPEG 2000, the signature box of JP2, the header of RLE, whose first segment
/// comes right behind it.
pub(crate) fn is_beginning(head: &[u8]) -> bool {
    head.starts_with(&[0xFF, 0xD8, 0xFF])
        || head.starts_with(&[0xFF, 0x4F, 0xFF, 0x51])
        || head.starts_with(b"\0\0\0\x0cjP  ")
        || matches!(head, [1..=15, 0, 0, 0, 64, 0, 0, 0, ..])
}

/// Finds the encapsulated images of an object.
pub(crate) fn survey(stored: &Stored, compression: Compression, patience: &Patience) -> Result<Images, Error> {
    let mut input = Input::new(stored, patience);
    let mut surveyor = Surveyor {
        compression,
        open: vec![Attributes::default()],
        images: Images::new(),
    };
    walk(&mut input, Syntax::ExplicitLittle, false, &mut surveyor)?;
    Ok(surveyor.images)
}

/// What describes the pixels of a data set (PS3.3 C.7.6.3).
#[derive(Clone, Debug, Default)]
struct Attributes {
    start: u64,
    samples: u64,
    photometric: String,
    rows: u64,
    columns: u64,
    frames: String,
    bits_allocated: u64,
    signed: bool,
    extended_offsets: (u64, u64),
}

struct Surveyor {
    compression: Compression,
    /// The outermost data set and open items
    open: Vec<Attributes>,
    images: Images,
}

impl Visitor for Surveyor {
    fn element(&mut self, element: Element, input: &mut Input) -> Result<(), Error> {
        const LONGEST: u64 = 64;
        let Some(attributes) = self.open.last_mut() else {
            return input.skip(element.length);
        };
        if element.tag == tags::EXTENDED_OFFSET_TABLE {
            attributes.extended_offsets = (input.position(), element.length);
        }
        if element.tag.group() != 0x0028 || element.length > LONGEST {
            return input.skip(element.length);
        }
        let value = input.bytes(usize::try_from(element.length).unwrap_or_default())?;
        attributes.take(element.tag, &value);
        Ok(())
    }

    fn fragments(&mut self, element: Element, input: &mut Input) -> Result<(), Error> {
        let at = input.position();
        if element.tag != PIXEL_DATA {
            return Err(Error::Unsupported(format!(
                "{} is encapsulated, which only Pixel Data may be",
                element.tag
            )));
        }
        let attributes = self.open.last().cloned().unwrap_or_default();
        let mut image = attributes.image(self.compression)?;
        let Some(length) = next_fragment(input)? else {
            return Err(Error::Malformed {
                what: "pixel data without a Basic Offset Table",
                at,
            });
        };
        image.basic_offsets = (input.position(), length);
        input.skip(length)?;
        while let Some(length) = next_fragment(input)? {
            let head = usize::try_from(length).unwrap_or(usize::MAX).min(12);
            image.fragments += 1;
            image.beginnings += u64::from(is_beginning(input.peek(head)?));
            input.skip(length)?;
        }
        self.images.insert(attributes.start, image);
        if self.images.len() > MAX_IMAGES {
            return Err(Error::TooLarge("the number of encapsulated images in one object"));
        }
        Ok(())
    }

    fn begin_sequence(&mut self, _: Tag) -> Result<(), Error> {
        Ok(())
    }

    fn begin_item(&mut self, start: u64) -> Result<(), Error> {
        self.open.push(Attributes {
            start,
            ..Attributes::default()
        });
        Ok(())
    }

    fn end_item(&mut self) -> Result<(), Error> {
        self.open.pop();
        Ok(())
    }

    fn end_sequence(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

impl Attributes {
    fn take(&mut self, tag: Tag, value: &[u8]) {
        let word = || value.first_chunk().map_or(0, |word| u64::from(u16::from_le_bytes(*word)));
        let text = || String::from_utf8_lossy(value).trim_matches([' ', '\0']).to_owned();
        match tag {
            tags::SAMPLES_PER_PIXEL => self.samples = word(),
            tags::PHOTOMETRIC_INTERPRETATION => self.photometric = text(),
            tags::NUMBER_OF_FRAMES => self.frames = text(),
            tags::ROWS => self.rows = word(),
            tags::COLUMNS => self.columns = word(),
            tags::BITS_ALLOCATED => self.bits_allocated = word(),
            tags::PIXEL_REPRESENTATION => self.signed = word() == 1,
            _ => {}
        }
    }

    /// The image that these attributes describe, checked against what is decoded here.
    fn image(&self, compression: Compression) -> Result<Image, Error> {
        let unsupported = |what: &str| Err(Error::Unsupported(format!("{what} cannot be decoded")));
        if self.rows == 0 || self.columns == 0 {
            return unsupported("an image without Rows or Columns");
        }
        // Guessing would drop frames that nobody misses.
        let frames = match self.frames.as_str() {
            "" => 1,
            number => match number.parse() {
                Ok(frames @ 1..) => frames,
                _ => return unsupported(&format!("an image with {number:?} frames")),
            },
        };
        if !matches!(self.samples, 1 | 3 | 4) {
            return unsupported(&format!("{} samples per pixel", self.samples));
        }
        let raw = matches!(compression, Compression::None | Compression::Deflate);
        let bits = match self.bits_allocated {
            8 | 16 => self.bits_allocated,
            32 if raw || compression == Compression::Rle => 32,
            64 if raw => 64,
            // Native frames of single bits are not padded, encapsulated ones are.
            1 if raw && self.samples == 1 && (self.rows * self.columns).is_multiple_of(8) => 1,
            other => return unsupported(&format!("{other} bits allocated")),
        };
        let format = Format {
            compression,
            rows: u32::try_from(self.rows).unwrap_or_default(),
            columns: u32::try_from(self.columns).unwrap_or_default(),
            samples: u8::try_from(self.samples).unwrap_or_default(),
            bits_allocated: u8::try_from(bits).unwrap_or_default(),
            signed: self.signed,
            // Colour that is said to be RGB may have been transformed by the codec all the same: the codestream tells.
            ycc: self.photometric.starts_with("YBR"),
        };
        if format.bytes() > MAX_FRAME {
            return Err(Error::TooLarge("one frame of the image"));
        }
        let photometric = match (compression, self.photometric.as_str()) {
            (Compression::Jpeg, _) if self.samples == 3 => Some("RGB"),
            (Compression::Jpeg2000, "YBR_RCT" | "YBR_ICT") => Some("RGB"),
            (_, "YBR_FULL_422" | "YBR_PARTIAL_422" | "YBR_PARTIAL_420") => return unsupported("subsampled colour in this transfer syntax"),
            _ => None,
        };
        let image = Image {
            format,
            frames,
            photometric: photometric.filter(|name| *name != self.photometric),
            basic_offsets: (0, 0),
            extended_offsets: self.extended_offsets,
            fragments: 0,
            beginnings: 0,
        };
        if image.length() > MAX_NATIVE {
            return Err(Error::TooLarge("the pixels are more than 4 GB when decompressed"));
        }
        Ok(image)
    }
}
