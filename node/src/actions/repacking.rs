//! What is said of adopted objects that were packed.

use std::fmt::Write;

use anyhow::bail;
use filmroom_tiering::Archive;
use filmroom_tiering::repack::{Order, Repacked};

use crate::cli::report::second;

/// Packs what was adopted. Fails, after everything was tried, if something is damaged.
pub(super) async fn carry_out(archive: &Archive, order: &Order) -> anyhow::Result<String> {
    let repacked = archive.repack(order).await?;
    let said = say(order, &repacked);
    match repacked.left.damaged {
        0 => Ok(said),
        damaged => bail!("{said}; {damaged} are lost or altered and were not packed: see `filmroom fsck`"),
    }
}

fn say(order: &Order, repacked: &Repacked) -> String {
    let subject = match order.studies.as_slice() {
        [] => "everything".to_owned(),
        studies => studies.join(", "),
    };
    let mut said = format!("{subject}: {} adopted objects packed and verified", repacked.packed);
    let left = &repacked.left;
    let mut add = |text: std::fmt::Arguments<'_>| {
        // Writing to a String does not fail.
        let _ = said.write_fmt(text);
    };
    match (left.archived, repacked.restoring_until) {
        (0, _) => {}
        (archived, Some(until)) => add(format_args!(
            "; {archived} with {} bytes are restored and packed then, which is expected by {}",
            left.archived_bytes,
            second(until)
        )),
        (archived, None) => add(format_args!(
            "; {archived} with {} bytes are archived and stay as they are: restore them, or give --restore, and do it again",
            left.archived_bytes
        )),
    }
    let others = left.objects.saturating_sub(left.archived + left.damaged);
    if others > 0 {
        add(format_args!("; {others} are deleted and stay as they are until they are erased"));
    }
    let originals = &repacked.originals;
    match (order.remove_originals, originals.kept, originals.kept_until) {
        (false, ..) if originals.all > 0 => add(format_args!("; {} originals lie where they lay", originals.all)),
        (true, 0, _) => add(format_args!("; their originals are removed, in every version")),
        (true, kept, Some(until)) => add(format_args!(
            "; {kept} originals cannot be removed yet, the last not before {}: {}; the node comes back to them",
            second(until),
            originals.why
        )),
        (true, kept, None) => add(format_args!(
            "; {kept} originals cannot be removed yet: {}; the node comes back to them",
            originals.why
        )),
        (false, ..) => {}
    }
    said
}
