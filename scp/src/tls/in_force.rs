//! The certificates in force.
//!
//! # Mechanics
//! [`Tls`] holds what was read from the PEM files. [`Tls::reload`] reads them again and replaces it for the connections that come; those that
//! are open keep what they began with.
//!
//! # Invariants
//! TLS 1.2 and 1.3 only. Files that do not go together (a key of another certificate, a CA file that holds none) never come into force: what was
//! in force stays, and [`Tls::problem`] says so. No session is resumed: each connection shows its certificate again, and what a reload no longer
//! trusts does not come back by a ticket.
//!
//! # Crash story
//! Nothing is written here; a restart reads the files as a reload does.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};

use super::files::{self, FileProblem, FileRole, Material, Stamp};
use super::{Certificate, TlsSettings};

/// The certificates in force. Clones share them.
#[derive(Clone, Debug)]
pub struct Tls {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: TlsSettings,
    state: RwLock<State>,
}

#[derive(Debug)]
struct State {
    material: Arc<Material>,
    /// The files as they were when they were last read
    stamps: Vec<Stamp>,
    /// Why what they hold now is not in force
    problem: Option<String>,
}

impl Tls {
    /// Reads the files; every problem with its file.
    pub fn load(settings: TlsSettings) -> Result<Tls, Vec<FileProblem>> {
        let stamps = files::stamps(&settings);
        let material = Arc::new(files::read(&settings)?);
        let state = State {
            material,
            stamps,
            problem: None,
        };
        Ok(Tls {
            shared: Arc::new(Shared {
                settings,
                state: RwLock::new(state),
            }),
        })
    }

    /// Reads the files again: what they hold is in force for new connections, or what was before stays so and the problem is kept.
    pub fn reload(&self) -> Result<(), Vec<FileProblem>> {
        // Stamped before they are read: a file that changes meanwhile is found changed by the next look.
        let stamps = files::stamps(&self.shared.settings);
        let read = files::read(&self.shared.settings);
        let mut state = self.shared.state.write().unwrap_or_else(PoisonError::into_inner);
        state.stamps = stamps;
        match read {
            Ok(material) => {
                state.material = Arc::new(material);
                state.problem = None;
                Ok(())
            }
            Err(problems) => {
                let words: Vec<String> = problems.iter().map(ToString::to_string).collect();
                state.problem = Some(words.join("; "));
                Err(problems)
            }
        }
    }

    /// Whether a file is another than when it was last read.
    pub fn files_changed(&self) -> bool {
        let now = files::stamps(&self.shared.settings);
        self.shared.state.read().unwrap_or_else(PoisonError::into_inner).stamps != now
    }

    /// Why the files as they are now are not in force.
    pub fn problem(&self) -> Option<String> {
        self.shared.state.read().unwrap_or_else(PoisonError::into_inner).problem.clone()
    }

    /// Our certificate that is in force.
    pub fn own_certificate(&self) -> Option<Certificate> {
        self.material().own.clone()
    }

    /// The certificates in force with the name of their setting: our own, and those of the CAs.
    pub fn certificates(&self) -> Vec<(FileRole, Certificate)> {
        let material = self.material();
        let own = material.own.iter().map(|own| (FileRole::Certificate, own.clone()));
        own.chain(material.authorities.iter().cloned()).collect()
    }

    /// What the files are to hold.
    pub fn settings(&self) -> &TlsSettings {
        &self.shared.settings
    }

    pub(super) fn material(&self) -> Arc<Material> {
        Arc::clone(&self.shared.state.read().unwrap_or_else(PoisonError::into_inner).material)
    }
}

/// What encrypts: aws-lc. The key exchanges are the elliptic curves that PS3.15 and the devices know; a post-quantum share would make a ClientHello
/// of two TCP segments, which some of them cannot read.
pub fn provider() -> CryptoProvider {
    CryptoProvider {
        kx_groups: vec![
            aws_lc_rs::kx_group::X25519,
            aws_lc_rs::kx_group::SECP256R1,
            aws_lc_rs::kx_group::SECP384R1,
        ],
        ..aws_lc_rs::default_provider()
    }
}

/// Makes that provider the one of the process, for every library that has none of its own.
pub fn install_provider() {
    // An error says that there is one already: ours, from an earlier call.
    let _ = provider().install_default();
}
