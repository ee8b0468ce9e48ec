//! `filmroom user`: what the `[[user]]` entries of the configuration need.

use std::io::{IsTerminal, Read};

use anyhow::{Context, bail};
use filmroom_scp::access::passcode::PasscodeHash;

/// More than any passcode has.
const MAX: u64 = 4096;

/// `filmroom user hash`: the passcode comes from standard input, so that it is in no process list and no history of a shell.
pub(crate) fn hash() -> anyhow::Result<()> {
    if std::io::stdin().is_terminal() {
        eprintln!("passcode (it is shown as you type; end with Enter):");
        let mut line = String::new();
        std::io::stdin().read_line(&mut line)?;
        return print(line.trim_end_matches(['\r', '\n']));
    }
    let mut text = String::new();
    std::io::stdin()
        .take(MAX)
        .read_to_string(&mut text)
        .context("the passcode on standard input")?;
    print(text.trim_end_matches(['\r', '\n']))
}

fn print(passcode: &str) -> anyhow::Result<()> {
    match PasscodeHash::of(passcode.as_bytes()) {
        Ok(hash) => println!("{hash}"),
        Err(problem) => bail!("{problem}"),
    }
    Ok(())
}
