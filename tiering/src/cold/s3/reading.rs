//! The body of a GET, which goes on where it broke.

use std::io;
use std::ops::Range;
use std::time::Duration;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives;
use bytes::Bytes;
use tokio::time::timeout;

use super::S3;
use crate::cold::{ByteStream, ColdError};

/// The longest pause before a broken body is asked for again.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// Asks for an object or a range of it, which must not be empty. With `etag`, as headers have it: of that very object.
pub(super) async fn start(store: S3, key: &str, range: Option<Range<u64>>, etag: Option<String>) -> Result<ByteStream, ColdError> {
    let answer = store.request(key, range.as_ref(), etag).await?;
    let first = range.as_ref().map_or(0, |range| range.start);
    let length = length(&answer).map_err(|error| ColdError::Unavailable(format!("{key}: {error}")))?;
    if let Some(wanted) = range.filter(|range| range.end - range.start != length) {
        return Err(ColdError::Differs {
            key: key.to_owned(),
            what: format!("{length} bytes came instead of bytes {} to {}", wanted.start, wanted.end),
        });
    }
    let reading = Reading {
        pauses: 0,
        key: key.to_owned(),
        etag: answer.e_tag,
        body: answer.body,
        rest: first..first.saturating_add(length),
        store,
    };
    let chunks = futures::stream::try_unfold(reading, |mut reading| async move {
        let chunk = reading.next().await?;
        Ok(chunk.map(|chunk| (chunk, reading)))
    });
    Ok(Box::pin(chunks))
}

fn length(answer: &GetObjectOutput) -> io::Result<u64> {
    let length = answer.content_length().and_then(|length| u64::try_from(length).ok());
    length.ok_or_else(|| io::Error::other("the answer to GET has no length"))
}

struct Reading {
    store: S3,
    key: String,
    etag: Option<String>,
    body: primitives::ByteStream,
    /// The bytes of the object that have not come yet
    rest: Range<u64>,
    /// How often the body broke since bytes came last
    pauses: u32,
}

impl Reading {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let left = self.rest.end - self.rest.start;
            let broken = match timeout(self.store.timeout, self.body.next()).await {
                Ok(Some(Ok(chunk))) if chunk.len() as u64 > left => {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!("{}: more bytes came than there are", self.key),
                    ));
                }
                Ok(Some(Ok(chunk))) => {
                    self.rest.start += chunk.len() as u64;
                    self.pauses = 0;
                    return Ok(Some(chunk));
                }
                Ok(None) if left == 0 => return Ok(None),
                Ok(Some(Err(error))) => io::Error::other(error),
                Ok(None) => io::ErrorKind::UnexpectedEof.into(),
                Err(_) => io::ErrorKind::TimedOut.into(),
            };
            if left == 0 {
                // All bytes have come: what failed is the comparison with the object's checksum.
                return Err(io::Error::new(io::ErrorKind::InvalidData, broken));
            }
            self.resume(broken).await?;
        }
    }

    /// Asks for the rest of a body that broke.
    async fn resume(&mut self, broken: io::Error) -> io::Result<()> {
        self.pauses += 1;
        if self.pauses >= self.store.attempts {
            return Err(broken);
        }
        tracing::debug!(key = self.key, at = self.rest.start, error = %broken, "a body broke, it is asked for again");
        tokio::time::sleep((Duration::from_millis(100) * 2u32.saturating_pow(self.pauses)).min(MAX_PAUSE)).await;
        let answer = self
            .store
            .request(&self.key, Some(&self.rest), self.etag.clone())
            .await
            .map_err(io::Error::other)?;
        if length(&answer)? != self.rest.end - self.rest.start {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{}: the rest has another length", self.key),
            ));
        }
        self.body = answer.body;
        Ok(())
    }
}
