//! The certificates in force while the node runs: renewed ones are taken in without a restart, and how long they are good is told.
//!
//! Mechanics: on SIGHUP, and whenever a look once a minute finds another file than was read last, all files are read again. What does not go together
//! (a certificate whose key has not been written yet) leaves the old ones in force, is logged, shown by `/health/ready`, and tried again at the next
//! change. Connections that are open keep what they began with.

use std::time::Duration;

use filmroom_scp::tls::{Certificate, FileRole, Tls};
use metrics::{counter, gauge};
use time::OffsetDateTime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(60);
/// A certificate that ends within this time is warned of, once a day.
const SOON: i64 = 30 * 86_400;

/// SIGHUP from now on. It never ends the node, whether or not there is anything to read again.
pub(crate) fn hangups() -> anyhow::Result<Signal> {
    Ok(signal(SignalKind::hangup())?)
}

/// Keeps the certificates up to date until cancelled.
pub(crate) async fn watch(tls: Option<Tls>, mut hangups: Signal, stop: CancellationToken) {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut warned_on = None;
    loop {
        let asked = tokio::select! {
            () = stop.cancelled() => return,
            _ = looks.tick() => false,
            Some(()) = hangups.recv() => true,
        };
        let Some(tls) = &tls else {
            if asked {
                tracing::info!("SIGHUP: there are no certificates to read again");
            }
            continue;
        };
        if asked || tls.files_changed() {
            reload(tls).await;
        }
        tell_expiry(tls);
        let today = OffsetDateTime::now_utc().date();
        if warned_on != Some(today) {
            warned_on = Some(today);
            tls.certificates()
                .iter()
                .for_each(|(role, certificate)| warn_of_expiry(*role, certificate));
        }
    }
}

/// Reads the files again, off the runtime's threads: they may lie on a slow mount.
async fn reload(tls: &Tls) {
    let reading = tls.clone();
    let outcome = match tokio::task::spawn_blocking(move || reading.reload()).await {
        Ok(outcome) => outcome,
        Err(error) => {
            tracing::error!(%error, "the certificates could not be read again");
            return;
        }
    };
    match outcome {
        Ok(()) => {
            counter!("filmroom_tls_reloads_total", "result" => "ok").increment(1);
            let own = tls.own_certificate();
            tracing::info!(
                certificate = own.map_or_else(|| "none".to_owned(), |own| own.to_string()),
                "certificates read again: in force for new connections"
            );
        }
        Err(problems) => {
            counter!("filmroom_tls_reloads_total", "result" => "failed").increment(1);
            for problem in problems {
                tracing::error!(%problem, "certificates not taken: those from before stay in force");
            }
        }
    }
}

/// `filmroom_tls_certificate_expires_seconds`: of several CAs in a file the one that ends first.
fn tell_expiry(tls: &Tls) {
    for role in [FileRole::Certificate, FileRole::ClientCa, FileRole::Ca, FileRole::PeerCa] {
        let certificates = tls.certificates();
        let left = certificates
            .iter()
            .filter(|(of, _)| *of == role)
            .map(|(_, certificate)| seconds_left(certificate))
            .min();
        if let Some(left) = left {
            gauge!("filmroom_tls_certificate_expires_seconds", "setting" => role.setting()).set(left as f64);
        }
    }
}

fn warn_of_expiry(role: FileRole, certificate: &Certificate) {
    let left = seconds_left(certificate);
    if left < 0 {
        tracing::error!(setting = role.setting(), %certificate, "this certificate has expired");
    } else if left < SOON {
        tracing::warn!(setting = role.setting(), %certificate, days = left / 86_400, "this certificate expires soon");
    }
}

/// What of the certificates keeps the node from working.
pub(crate) fn missing(tls: Option<&Tls>) -> Vec<String> {
    let own = tls.and_then(Tls::own_certificate);
    let expired = own.filter(|own| seconds_left(own) < 0);
    expired
        .map(|own| format!("the node's TLS certificate has expired: {own}"))
        .into_iter()
        .collect()
}

/// What of them needs a person, while the node works.
pub(crate) fn warnings(tls: Option<&Tls>) -> Vec<String> {
    let problem = tls.and_then(Tls::problem);
    problem
        .map(|problem| format!("certificates that were read before are in force, for {problem}"))
        .into_iter()
        .collect()
}

fn seconds_left(certificate: &Certificate) -> i64 {
    certificate.not_after - OffsetDateTime::now_utc().unix_timestamp()
}
