//! The pass that writes: the data set in another transfer syntax, element by element (PS3.5 7, A).

use std::io::{BufWriter, Write};

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use filmroom_index::dataset::representation::{has_short_length, is_text, word_width};
use filmroom_index::header::element::{Syntax, UNDEFINED};
use filmroom_index::model::{Encoding, Uid, transfer_syntax};
use flate2::Compression;
use flate2::write::DeflateEncoder;

use crate::Written;
use crate::codec::Codec;
use crate::error::Error;
use crate::fragments::each_frame;
use crate::input::{Input, Patience, Stored};
use crate::survey::{Image, Images};
use crate::syntax::{Compression as Compressed, is_native};
use crate::walk::{Element, ITEM, ITEM_DELIMITER, PIXEL_DATA, SEQUENCE_DELIMITER, Visitor, walk};

/// Bytes written at a time.
const BUFFER: usize = 128 * 1024;

/// Writes the data set with its images decoded.
pub(crate) fn rewrite<W: Write>(
    stored: &Stored,
    to: &Uid,
    sink: W,
    images: &Images,
    codec: &mut Codec,
    patience: &Patience,
) -> Result<Written, Error> {
    let from = &stored.transfer_syntax;
    let syntax = match transfer_syntax::encoding(from) {
        Encoding::ImplicitLittle => Syntax::ImplicitLittle,
        Encoding::ExplicitBig => Syntax::ExplicitBig,
        Encoding::ExplicitLittle | Encoding::DeflatedExplicitLittle => Syntax::ExplicitLittle,
    };
    let mut input = Input::new(stored, patience);
    let mut writer = Writer {
        encoding: transfer_syntax::encoding(to),
        output: Output::new(sink, transfer_syntax::encoding(to)),
        stored,
        images,
        codec,
        patience,
        open: vec![Changes::of(images.get(&0))],
        frames: 0,
    };
    walk(&mut input, syntax, is_native(from), &mut writer)?;
    writer.apply_changes(None)?;
    Ok(Written {
        frames: writer.frames,
        bytes: writer.output.finish().map_err(Error::Write)?,
    })
}

/// Where the bytes go.
enum Output<W: Write> {
    Plain(BufWriter<W>, u64),
    Deflating(Box<DeflateEncoder<BufWriter<W>>>),
}

impl<W: Write> Output<W> {
    fn new(sink: W, encoding: Encoding) -> Output<W> {
        let buffered = BufWriter::with_capacity(BUFFER, sink);
        match encoding {
            Encoding::DeflatedExplicitLittle => Output::Deflating(Box::new(DeflateEncoder::new(buffered, Compression::fast()))),
            _ => Output::Plain(buffered, 0),
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match self {
            Output::Plain(writer, written) => {
                *written = written.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
                writer.write_all(bytes)
            }
            Output::Deflating(writer) => writer.write_all(bytes),
        }
        .map_err(Error::Write)
    }

    /// Bytes written in all. A deflated stream is padded to even length (PS3.5 A.5).
    fn finish(self) -> std::io::Result<u64> {
        match self {
            Output::Plain(mut writer, written) => writer.flush().map(|()| written),
            Output::Deflating(mut writer) => {
                writer.try_finish()?;
                let written = writer.total_out();
                let mut writer = writer.finish()?;
                if !written.is_multiple_of(2) {
                    writer.write_all(&[0])?;
                }
                writer.flush()?;
                Ok(written.next_multiple_of(2))
            }
        }
    }
}

/// What changes in a data set because its pixels are decoded: in the order of tags.
#[derive(Debug, Default)]
struct Changes<'i> {
    image: Option<&'i Image>,
    values: Vec<(Tag, VR, Vec<u8>)>,
}

impl<'i> Changes<'i> {
    fn of(image: Option<&'i Image>) -> Changes<'i> {
        let mut values = Vec::new();
        if let Some(image) = image {
            if let Some(name) = image.photometric {
                let mut value = name.as_bytes().to_vec();
                value.resize(value.len().next_multiple_of(2), b' ');
                values.push((tags::PHOTOMETRIC_INTERPRETATION, VR::CS, value));
            }
            // Decoders write colour by pixel; what is not decoded stays as it is.
            let decoded = !matches!(image.format.compression, Compressed::None | Compressed::Deflate);
            if image.format.samples > 1 && decoded {
                values.push((tags::PLANAR_CONFIGURATION, VR::US, vec![0, 0]));
            }
        }
        Changes { image, values }
    }
}

struct Writer<'i, W: Write> {
    encoding: Encoding,
    output: Output<W>,
    stored: &'i Stored,
    images: &'i Images,
    codec: &'i mut Codec,
    patience: &'i Patience,
    /// The outermost data set and open items
    open: Vec<Changes<'i>>,
    frames: u64,
}

impl<W: Write> Writer<'_, W> {
    fn word(&self, value: u16) -> [u8; 2] {
        match self.encoding {
            Encoding::ExplicitBig => value.to_be_bytes(),
            _ => value.to_le_bytes(),
        }
    }

    fn long(&self, value: u32) -> [u8; 4] {
        match self.encoding {
            Encoding::ExplicitBig => value.to_be_bytes(),
            _ => value.to_le_bytes(),
        }
    }

    fn tag(&mut self, tag: Tag) -> Result<(), Error> {
        let [a, b] = self.word(tag.group());
        let [c, d] = self.word(tag.element());
        self.output.put(&[a, b, c, d])
    }

    /// Tag, VR and length; the VR is the one that was written.
    fn fields(&mut self, tag: Tag, vr: VR, length: u32) -> Result<VR, Error> {
        self.tag(tag)?;
        let long = self.long(length);
        if self.encoding == Encoding::ImplicitLittle {
            self.output.put(&long)?;
            return Ok(vr);
        }
        let short = u16::try_from(length).ok();
        if let Some(short) = short.filter(|_| has_short_length(vr)) {
            self.output.put(&vr.to_bytes())?;
            let short = self.word(short);
            self.output.put(&short)?;
            return Ok(vr);
        }
        // PS3.5 6.2.2: what does not fit the 16 bits of its VR.
        let vr = if has_short_length(vr) { VR::UN } else { vr };
        self.output.put(&vr.to_bytes())?;
        self.output.put(&[0, 0])?;
        self.output.put(&long)?;
        Ok(vr)
    }

    /// Item or delimiter.
    fn mark(&mut self, tag: Tag, length: u32) -> Result<(), Error> {
        self.tag(tag)?;
        let long = self.long(length);
        self.output.put(&long)
    }

    /// An element whose value is at hand, in little endian.
    fn small(&mut self, tag: Tag, vr: VR, mut value: Vec<u8>) -> Result<(), Error> {
        let written = self.fields(tag, vr, u32::try_from(value.len()).unwrap_or_default())?;
        if self.encoding == Encoding::ExplicitBig && written != VR::UN {
            swap(word_width(vr), &mut value);
        }
        self.output.put(&value)
    }

    /// Writes what changes and comes before a tag, or all that is left; true if the tag itself is replaced.
    fn apply_changes(&mut self, before: Option<Tag>) -> Result<bool, Error> {
        let Some(changes) = self.open.last_mut().filter(|changes| !changes.values.is_empty()) else {
            return Ok(false);
        };
        let (now, later) = std::mem::take(&mut changes.values)
            .into_iter()
            .partition(|(tag, _, _)| before.is_none_or(|before| *tag <= before));
        changes.values = later;
        let now: Vec<(Tag, VR, Vec<u8>)> = now;
        let replaced = now.last().is_some_and(|(tag, _, _)| Some(*tag) == before);
        for (tag, vr, value) in now {
            self.small(tag, vr, value)?;
        }
        Ok(replaced)
    }

    /// Whether an element is left out: group lengths say nothing true any more, groups 0000 and 0002 have no place in a data set, and what locates
    /// fragments has nothing to locate.
    fn is_left_out(&self, tag: Tag) -> bool {
        let decoded = self.open.last().is_some_and(|changes| changes.image.is_some());
        tag.element() == 0
            || matches!(tag.group(), 0x0000 | 0x0002)
            || (decoded
                && matches!(
                    tag,
                    tags::EXTENDED_OFFSET_TABLE | tags::EXTENDED_OFFSET_TABLE_LENGTHS | tags::ENCAPSULATED_PIXEL_DATA_VALUE_TOTAL_LENGTH
                ))
    }
}

impl<W: Write> Visitor for Writer<'_, W> {
    fn element(&mut self, element: Element, input: &mut Input) -> Result<(), Error> {
        let Element { tag, vr, length, big } = element;
        if self.apply_changes(Some(tag))? || self.is_left_out(tag) {
            return input.skip(length);
        }
        let padded = length.next_multiple_of(2);
        let Some(field) = u32::try_from(padded).ok().filter(|length| *length < UNDEFINED - 1) else {
            return Err(Error::TooLarge("a value of 4 GB"));
        };
        let written = self.fields(tag, vr, field)?;
        let to_big = self.encoding == Encoding::ExplicitBig && written != VR::UN;
        let width = if written == VR::UN || big == to_big { 1 } else { word_width(vr) };
        if width == 1 {
            input.each(length, |piece| self.output.put(piece))?;
        } else {
            // Pieces come in any size; words must not be torn.
            let mut missing = length;
            while missing > 0 {
                let whole = usize::try_from(missing).unwrap_or(usize::MAX).min(BUFFER / 2);
                let mut words = input.bytes(whole)?;
                swap(width, &mut words);
                self.output.put(&words)?;
                missing -= u64::try_from(whole).unwrap_or(missing).min(missing);
            }
        }
        if padded != length {
            let padding = if is_text(vr) && vr != VR::UI { b' ' } else { 0 };
            self.output.put(&[padding])?;
        }
        Ok(())
    }

    fn fragments(&mut self, element: Element, input: &mut Input) -> Result<(), Error> {
        self.apply_changes(Some(element.tag))?;
        let Some(image) = self
            .open
            .last()
            .and_then(|changes| changes.image)
            .filter(|_| element.tag == PIXEL_DATA)
        else {
            return Err(Error::Unsupported(format!(
                "{} is encapsulated, which only Pixel Data may be",
                element.tag
            )));
        };
        let length = image.length();
        let Some(field) = u32::try_from(length.next_multiple_of(2)).ok() else {
            return Err(Error::TooLarge("the pixels are more than 4 GB when decompressed"));
        };
        let vr = if image.format.bits_allocated > 8 { VR::OW } else { VR::OB };
        self.fields(PIXEL_DATA, vr, field)?;
        // Implicit VR is OW by rule, and its order of bytes the same.
        let width = if self.encoding == Encoding::ExplicitBig {
            word_width(vr)
        } else {
            1
        };
        each_frame(image, self.stored, input, |number, frame| {
            self.patience.check()?;
            let decoded = self.codec.decode(&image.format, frame, self.patience);
            let mut pixels = decoded.map_err(|error| Error::Frame { frame: number, error })?;
            swap(width, &mut pixels);
            self.frames += 1;
            self.output.put(&pixels)
        })?;
        if !length.is_multiple_of(2) {
            self.output.put(&[0])?;
        }
        Ok(())
    }

    fn begin_sequence(&mut self, tag: Tag) -> Result<(), Error> {
        self.apply_changes(Some(tag))?;
        self.fields(tag, VR::SQ, UNDEFINED)?;
        Ok(())
    }

    fn begin_item(&mut self, at: u64) -> Result<(), Error> {
        self.open.push(Changes::of(self.images.get(&at)));
        self.mark(ITEM, UNDEFINED)
    }

    fn end_item(&mut self) -> Result<(), Error> {
        self.apply_changes(None)?;
        self.open.pop();
        self.mark(ITEM_DELIMITER, 0)
    }

    fn end_sequence(&mut self) -> Result<(), Error> {
        self.mark(SEQUENCE_DELIMITER, 0)
    }
}

/// Turns the order of the bytes of each word around; a last one that is not whole stays as it is.
fn swap(width: usize, bytes: &mut [u8]) {
    if width > 1 {
        bytes.chunks_exact_mut(width).for_each(<[u8]>::reverse);
    }
}
