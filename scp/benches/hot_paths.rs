//! Reading PDUs: the bytes of a C-STORE of a CT slice taken apart, out of memory. `cargo bench -p filmroom-scp`.

#![allow(clippy::expect_used, missing_docs, reason = "a benchmark fails by panicking, as tests do")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use filmroom_scp::pdu::{Frame, Wire, begin_pdata, end_pdata};

criterion_group!(paths, reading);
criterion_main!(paths);

/// Bytes of a CT slice with its header.
const SLICE: usize = 527_000;

fn reading(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut group = criterion.benchmark_group("reading PDUs");
    group.throughput(Throughput::Bytes(SLICE as u64));
    for length in [16 * 1024, 128 * 1024] {
        let mut message = Vec::new();
        let data_set = vec![7; SLICE];
        let pieces = data_set.chunks(length - 6);
        let last = pieces.len() - 1;
        for (index, piece) in pieces.enumerate() {
            let start = begin_pdata(&mut message, 1);
            message.extend_from_slice(piece);
            end_pdata(&mut message, start, false, index == last);
        }
        group.bench_function(format!("of {} KB", length / 1024), |bench| {
            bench.iter(|| runtime.block_on(read(&message)));
        });
    }
}

/// As an association does: takes what is there, and reads more when nothing is.
async fn read(message: &[u8]) {
    // Reading from memory gives at most what is asked for; writing is not done.
    let mut wire = Wire::new(tokio::io::join(message, tokio::io::sink()));
    loop {
        match wire.take().expect("PDUs") {
            Some(Frame::Fragment(fragment)) => {
                let last = fragment.last;
                black_box(fragment);
                if last {
                    return;
                }
            }
            Some(_) => unreachable!("nothing else was written"),
            None => wire.fill().await.expect("more"),
        }
    }
}
