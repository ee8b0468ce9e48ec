//! Test builds only: `FILMROOM_ABORT_AT=commit::after_rename=20` ends the process, as a kill would, when it passes that step for the 20th time.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Arms the step that the environment names.
pub(crate) fn arm() -> anyhow::Result<()> {
    let Ok(step) = std::env::var("FILMROOM_ABORT_AT") else {
        return Ok(());
    };
    let Some((name, nth)) = step.rsplit_once('=') else {
        anyhow::bail!("FILMROOM_ABORT_AT={step}: write STEP=N")
    };
    let nth: usize = nth.parse()?;
    let passed = AtomicUsize::new(0);
    fail::cfg_callback(name, move || {
        if passed.fetch_add(1, Ordering::SeqCst) + 1 == nth {
            std::process::abort();
        }
    })
    .map_err(anyhow::Error::msg)
}
