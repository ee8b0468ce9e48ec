//! Arbitrary bytes as a command set (PS3.7 6.3.1): a command or an error, no panic; what we write of it is read back as what was written.
#![no_main]

use filmroom_scp::dimse::{Command, Received};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(received) = Command::receive(bytes) else { return };
    // Writing cuts comments and cleans them, and drops what some commands never have; that done, nothing more is lost.
    let once = rewritten(&received);
    assert_eq!(rewritten(&once), once);
});

fn rewritten(received: &Received) -> Received {
    let written = received.command.encode_with(received.data_set);
    assert_eq!(written.len() % 2, 0);
    Command::receive(&written).unwrap()
}
