//! How far the scrub is, in `filmroom status`.

use filmroom_index::catalogue::{ScrubProgress, ScrubTally};
use serde_json::{Value, json};

use super::report::{instant, second};

/// For scripts.
pub(super) fn described(progress: &ScrubProgress) -> Value {
    let tally = |tally: &ScrubTally| json!({ "checked": tally.checked, "bytes": tally.bytes, "bad": tally.bad });
    json!({
        "began": progress.began_at.map(instant), "so_far": tally(&progress.tally),
        "last_began": progress.last_began_at.map(instant), "last_ended": progress.last_ended_at.map(instant), "last": tally(&progress.last),
    })
}

/// For people.
pub(super) fn line(progress: &ScrubProgress) -> String {
    let tally = |tally: &ScrubTally| format!("{} looked at, {} bad", tally.checked, tally.bad);
    let last = match progress.last_ended_at {
        Some(ended) => format!("last complete {} ({})", second(ended), tally(&progress.last)),
        None => "never complete".to_owned(),
    };
    match progress.began_at {
        Some(began) => format!("{last}; under way since {} ({})", second(began), tally(&progress.tally)),
        None => last,
    }
}
