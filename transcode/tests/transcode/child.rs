//! A codec process that does not do its work is an error of one frame, in time.

use std::time::{Duration, Instant};

use crate::support::patience;
use filmroom_transcode::codec::{CodecError, Format};
use filmroom_transcode::syntax::Compression;
use filmroom_transcode::{Codec, Program};

const FRAME: Format = Format {
    compression: Compression::Rle,
    rows: 2,
    columns: 2,
    samples: 1,
    bits_allocated: 8,
    signed: false,
    ycc: false,
};

fn codec(program: &str, arguments: &[&str]) -> Codec {
    Codec::new(Some(Program {
        program: program.into(),
        arguments: arguments.iter().map(Into::into).collect(),
    }))
}

#[test]
fn a_codec_that_hangs_is_killed_when_its_time_is_over() {
    let mut patience = patience();
    patience.until = Instant::now() + Duration::from_millis(300);
    let begun = Instant::now();
    let error = codec("/bin/sleep", &["1000"]).decode(&FRAME, &[0; 70], &patience).unwrap_err();
    assert!(matches!(&error, CodecError::Ended(text) if text.contains("signal: 9")), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_codec_that_crashes_talks_nonsense_or_is_not_there_is_an_error() {
    // `cat` answers with the request itself.
    for (program, arguments) in [("/bin/false", [].as_slice()), ("/bin/cat", &[]), ("/nowhere/codec", &[])] {
        let mut codec = codec(program, arguments);
        for _ in 0..2 {
            let error = codec.decode(&FRAME, &[0; 70], &patience()).unwrap_err();
            assert!(matches!(error, CodecError::Ended(_)), "{program}: {error}");
        }
    }
}
