//! A file without a name for what is made on the way out, sent once and dropped. It has no crash story: nothing of it is there after the process.

use std::fs::File;
use std::io::{self, Write};

use super::{DataSetReader, HotStore};
use crate::error::StoreError;

/// The disk's reserve is looked at after so many bytes.
const STRIDE: u64 = 16 << 20;

/// A file without a name, written once. Its functions block.
#[derive(Debug)]
pub struct Spool {
    hot: HotStore,
    file: File,
    written: u64,
    /// Bytes until the disk is looked at again
    unchecked: u64,
}

impl Spool {
    /// Makes the file. Refused when the disk is at its reserve: what is received comes first.
    pub(crate) fn open(hot: &HotStore) -> Result<Spool, StoreError> {
        hot.check_space()?;
        Ok(Spool {
            file: hot.spool()?,
            hot: hot.clone(),
            written: 0,
            unchecked: 0,
        })
    }

    /// What was written, as a data set to be sent.
    pub fn into_reader(self) -> DataSetReader {
        DataSetReader::new(self.file, 0, self.written, self.hot.reading().clone())
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.unchecked >= STRIDE {
            self.hot.check_space().map_err(io::Error::other)?;
            self.unchecked = 0;
        }
        let written = self.file.write(bytes)?;
        let count = u64::try_from(written).unwrap_or(u64::MAX);
        self.written = self.written.saturating_add(count);
        self.unchecked = self.unchecked.saturating_add(count);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
