//! The conformance statement in `docs/` says what the node does: the real binary compares them.

use std::path::Path;
use std::process::Command;

#[test]
fn the_conformance_statement_says_what_the_code_does() {
    let statement = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/conformance.md");
    let compared = Command::new(env!("CARGO_BIN_EXE_filmroom"))
        .args(["conformance", "--check"])
        .arg(statement)
        .output()
        .unwrap();
    assert!(compared.status.success(), "{}", String::from_utf8_lossy(&compared.stderr));
}
