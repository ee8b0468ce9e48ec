//! A body cut into the parts of an upload.
//!
//! # Mechanics
//! A part lies in memory of its own that the allocator does not know: it would keep pieces this big, one for every thread that ever took one. When the part is sent, the
//! next one of the upload is put there: a page that the system has to find first costs more than the copy of its bytes. What an upload used ends with it.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use memmap2::MmapMut;

use crate::cold::{Body, ColdError};

/// A body cut into pieces of the size that is asked for.
pub(super) struct Parts {
    body: Body,
    rest: Bytes,
    spare: Spare,
}

/// Memory of parts that were sent: no more than were under way at once.
type Spare = Arc<Mutex<Vec<MmapMut>>>;

/// What was filled of some memory. Dropped, it leaves that to the next part.
struct Part {
    memory: Option<MmapMut>,
    length: usize,
    spare: Spare,
}

impl Parts {
    pub(super) fn new(body: Body) -> Parts {
        Parts {
            body,
            rest: Bytes::new(),
            spare: Spare::default(),
        }
    }

    /// Exactly the next `size` bytes.
    pub(super) async fn next(&mut self, size: u64) -> Result<Bytes, ColdError> {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if size == 0 {
            return Ok(Bytes::new());
        }
        let mut memory = self.memory(size)?;
        let mut empty = memory.get_mut(..size).unwrap_or_default();
        while !empty.is_empty() {
            if self.rest.is_empty() {
                self.rest = match self.body.next().await? {
                    Some(chunk) => chunk,
                    None => return Err(ColdError::Source(io::ErrorKind::UnexpectedEof.into())),
                };
            }
            let taken = self.rest.split_to(self.rest.len().min(empty.len()));
            let (filled, left) = empty.split_at_mut(taken.len());
            filled.copy_from_slice(&taken);
            empty = left;
        }
        Ok(Bytes::from_owner(Part {
            memory: Some(memory),
            length: size,
            spare: Arc::clone(&self.spare),
        }))
    }

    /// Memory for `size` bytes at least.
    fn memory(&self, size: usize) -> Result<MmapMut, ColdError> {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match spare.filter(|memory| memory.len() >= size) {
            Some(memory) => Ok(memory),
            None => MmapMut::map_anon(size).map_err(|error| ColdError::Unavailable(format!("no memory for a part: {error}"))),
        }
    }

    /// Fails unless the body has come to its end, whole.
    pub(super) async fn end(&mut self) -> Result<(), ColdError> {
        while self.body.next().await?.is_some() {}
        Ok(())
    }
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        let filled = self.memory.as_deref().and_then(|memory| memory.get(..self.length));
        filled.unwrap_or_default()
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        spare.extend(self.memory.take());
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    #[tokio::test]
    async fn a_part_is_put_where_one_lay_that_was_sent() {
        let chunks = [vec![1; 3000], vec![2; 5000], vec![3; 1000]].map(|chunk| Ok(Bytes::from(chunk)));
        let mut parts = Parts::new(Body::new(Box::pin(stream::iter(chunks)), 9000));
        let first = parts.next(4000).await.unwrap();
        let second = parts.next(4000).await.unwrap();
        assert_eq!(first, [vec![1; 3000], vec![2; 1000]].concat());
        assert_eq!(second, [2; 4000][..]);
        let place = first.as_ptr();
        drop(first);
        let last = parts.next(1000).await.unwrap();
        assert_eq!((last.as_ptr(), &*last), (place, &[3; 1000][..]));
        assert_eq!(second, [2; 4000][..]);
        parts.end().await.unwrap();
    }
}
