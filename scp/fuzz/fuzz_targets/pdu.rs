//! Arbitrary bytes on a connection (PS3.8 9.3): frames and perhaps an error, the same however the network cuts the bytes; no fragment longer than
//! promised.
//!
//! The first byte is the size of the pieces that the connection delivers, the rest is the stream.
#![no_main]

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use filmroom_scp::pdu::{Fragment, Frame, MAX_FRAGMENT, PduError, Wire};
use futures::FutureExt;
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

fuzz_target!(|input: &[u8]| {
    let [size, stream @ ..] = input else { return };
    let whole = frames(stream, usize::MAX);
    let cut = frames(stream, usize::from(*size) + 1);
    assert_eq!(whole, cut);
});

/// The frames of a stream, pieces of one value joined, and why there are no more.
fn frames(stream: &[u8], size: usize) -> (Vec<Frame>, Option<PduError>) {
    let mut wire = Wire::new(Pieces { rest: stream, size });
    let mut frames = Vec::new();
    loop {
        match wire.take() {
            Ok(Some(frame)) => {
                if let Frame::Fragment(Fragment { data, .. }) = &frame {
                    assert!(data.len() <= MAX_FRAGMENT);
                }
                frames.push(frame);
            }
            Ok(None) => {
                // Always ready: there is no other end to wait for.
                if wire.fill().now_or_never().unwrap().is_err() {
                    return (frames, None);
                }
            }
            Err(error) => return (frames, Some(error)),
        }
    }
}

/// A connection that delivers at most `size` bytes at a time.
struct Pieces<'a> {
    rest: &'a [u8],
    size: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let length = self.rest.len().min(self.size).min(buffer.remaining());
        let (piece, rest) = self.rest.split_at(length);
        buffer.put_slice(piece);
        self.rest = rest;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pieces<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
