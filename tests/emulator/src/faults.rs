//! Faults that tests ask for, and which of them a request meets.

use serde::{Deserialize, Serialize};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// 503 SlowDown.
    SlowDown,
    /// The connection is reset without an answer.
    Reset,
    /// Half of the answer's body, and the connection closes.
    Truncate,
    /// A byte in the middle of the answer's body is another.
    WrongBytes,
    /// The answer comes late.
    Latency,
    /// The connection is closed without an answer.
    Outage,
    /// 503 GlacierExpeditedRetrievalNotAvailable for Expedited restores.
    ExpeditedUnavailable,
}

/// A fault as a test asks for it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// By this it is ended.
    #[serde(default)]
    pub id: u64,
    /// The operation it befalls, `*` for all.
    #[serde(default = "every")]
    pub operation: String,
    /// What goes wrong.
    pub kind: Kind,
    /// How often; none: until it is ended.
    #[serde(default)]
    pub count: Option<u64>,
    /// How many requests that it could befall pass before the first that it does.
    #[serde(default)]
    pub after: u64,
    /// Befalls only keys that contain this.
    #[serde(default)]
    pub key_contains: Option<String>,
    /// How late the answer comes.
    #[serde(default)]
    pub millis: u64,
}

fn every() -> String {
    "*".to_owned()
}

/// Whether a fault is met where requests are read or where a restore is asked for.
pub(crate) fn of_restores(fault: &Fault) -> bool {
    fault.kind == Kind::ExpeditedUnavailable
}

/// The faults that a request meets: all latencies, and the first of another kind. They are counted down.
pub(crate) fn meet(faults: &mut Vec<Fault>, operation: &str, key: &str, at: impl Fn(&Fault) -> bool) -> Vec<Fault> {
    let mut met: Vec<Fault> = Vec::new();
    for fault in faults.iter_mut() {
        let befalls = (fault.operation == "*" || fault.operation == operation)
            && fault.key_contains.as_ref().is_none_or(|part| key.contains(part))
            && at(fault);
        let second = fault.kind != Kind::Latency && met.iter().any(|other| other.kind != Kind::Latency);
        if !befalls || second {
            continue;
        }
        if fault.after > 0 {
            fault.after -= 1;
            continue;
        }
        if let Some(count) = &mut fault.count {
            if *count == 0 {
                continue;
            }
            *count -= 1;
        }
        met.push(fault.clone());
    }
    faults.retain(|fault| fault.count != Some(0));
    met
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(kind: Kind, after: u64, count: Option<u64>) -> Fault {
        Fault {
            id: 1,
            operation: "GetObject".to_owned(),
            kind,
            count,
            after,
            key_contains: Some("pack".to_owned()),
            millis: 0,
        }
    }

    #[test]
    fn a_fault_lets_some_requests_pass_befalls_its_count_and_ends() {
        let mut faults = vec![fault(Kind::SlowDown, 1, Some(2))];
        let mut met = |key| !meet(&mut faults, "GetObject", key, |_| true).is_empty();
        assert_eq!(
            [met("pack"), met("other"), met("pack"), met("pack"), met("pack")],
            [false, false, true, true, false]
        );
        assert!(faults.is_empty());
    }

    #[test]
    fn latency_comes_on_top_of_another_fault() {
        let mut faults = vec![
            fault(Kind::Latency, 0, None),
            fault(Kind::Reset, 0, Some(1)),
            fault(Kind::SlowDown, 0, Some(1)),
        ];
        let kinds = |met: Vec<Fault>| met.into_iter().map(|fault| fault.kind).collect::<Vec<_>>();
        assert_eq!(
            kinds(meet(&mut faults, "GetObject", "pack", |_| true)),
            [Kind::Latency, Kind::Reset]
        );
        assert_eq!(
            kinds(meet(&mut faults, "GetObject", "pack", |_| true)),
            [Kind::Latency, Kind::SlowDown]
        );
        assert!(meet(&mut faults, "PutObject", "pack", |_| true).is_empty());
    }
}
