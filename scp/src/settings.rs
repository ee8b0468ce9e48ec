//! What the configuration says about DICOM, checked.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use filmroom_index::model::{AeTitle, Availability, DuplicatePolicy, RestoreTier, Uid};
#[cfg(feature = "archive")]
use filmroom_transcode::Program;

use crate::access::{IdentityPolicy, Network, User};
#[cfg(feature = "archive")]
use crate::tls::Tls;
use crate::tls::{Binding, PeerTls};

/// `[node]`, `[dicom]`, `[retrieve]` and the `[[ae]]` list.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Our AE title
    pub ae_title: AeTitle,
    /// Other called AE titles that we answer to
    pub aliases: Vec<AeTitle>,
    /// Whether an association for any other called AE title is rejected (1/1/7)
    pub check_called_ae: bool,
    /// Where plain DICOM is listened for, if it is
    pub listen: Option<SocketAddr>,
    /// Where DICOM over TLS is listened for, if it is
    pub tls_listen: Option<SocketAddr>,
    /// The certificates in force, where TLS is used in either direction
    #[cfg(feature = "archive")]
    pub tls: Option<Tls>,
    /// Associations at once; one more is rejected as transient (2/3/2)
    pub max_associations: usize,
    /// What AEs that are not listed may do
    pub unknown_ae: UnknownAe,
    /// Whether SOP classes that the dictionary does not have, private ones too, are accepted for storage
    pub accept_unknown_sop_classes: bool,
    /// Remote AEs
    pub peers: Vec<Peer>,
    /// What is made of User Identity Negotiation
    pub identity: IdentityPolicy,
    /// Users that may identify themselves in it
    pub users: Vec<User>,
    /// Timers of an association
    pub timers: Timers,
    /// Our maximum length of a received P-DATA-TF PDU (PS3.8 D.1), bytes
    pub max_pdu: u32,
    /// Answers of one C-FIND; beyond, it fails with A700
    pub find_cap: usize,
    /// How long one C-FIND may search
    pub find_limit: Duration,
    /// How often a retrieve says Pending even when nothing moves
    pub pending_interval: Duration,
    /// How long a retrieve waits for what S3 has to restore, where the AE says nothing else
    pub retrieve_wait: Duration,
    /// How long it is tried to deliver what a C-MOVE could not send
    pub delivery_expire: Duration,
    /// What Deep Archive counts as: NEARLINE or OFFLINE
    pub deep_archive: Availability,
    /// The program that decodes compressed frames; none: this process does it itself
    #[cfg(feature = "archive")]
    pub codec: Option<Program>,
    /// Storage commitment
    pub commitment: Commitment,
}

/// `[commitment]`
#[derive(Clone, Copy, Debug)]
pub struct Commitment {
    /// What has to hold of an instance before its safekeeping is promised
    pub after: CommitAfter,
    /// How long that is waited for before the rest is reported as failed, and for how long a report is tried to be delivered
    pub expire: Duration,
    /// A series that somebody waits for is packed once it has been quiet for this long, if `cold.offload_after` is longer
    pub quiet: Duration,
}

/// `commitment.after`: the requester may delete its own copy once it has the report (PS3.4 J.3.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CommitAfter {
    /// The hot file was read and has its SHA-256, or a verified pack has it
    Hot,
    /// A verified pack has it
    Verified,
}

impl Default for Commitment {
    fn default() -> Commitment {
        Commitment {
            after: CommitAfter::Hot,
            expire: Duration::from_secs(7 * 86_400),
            quiet: Duration::from_secs(30),
        }
    }
}

/// Timers of an association.
#[derive(Clone, Copy, Debug)]
pub struct Timers {
    /// ARTIM (PS3.8 9.1.5): from the connection to the A-ASSOCIATE-RQ, from our A-RELEASE-RP or A-ABORT to the peer's close
    pub artim: Duration,
    /// No message at all between two messages
    pub idle: Duration,
    /// No byte within a message
    pub read: Duration,
    /// A write that does not move
    pub write: Duration,
    /// Opening a connection to a destination, its negotiation included
    pub connect: Duration,
}

impl Default for Timers {
    fn default() -> Timers {
        Timers {
            artim: Duration::from_secs(30),
            idle: Duration::from_secs(600),
            read: Duration::from_secs(60),
            write: Duration::from_secs(60),
            connect: Duration::from_secs(10),
        }
    }
}

/// `dicom.unknown_ae`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnknownAe {
    /// Rejected (1/1/3)
    Reject,
    /// May echo, store, and ask for commitment to what it stored
    Store,
    /// May echo, store, find, move, get and ask for commitment
    Allow,
}

/// One `[[ae]]`.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its AE title
    pub title: AeTitle,
    /// Host (name or address) and port where it listens; none: it cannot be a destination
    pub address: Option<(String, u16)>,
    /// Where it may call from; empty: from anywhere
    pub from: Vec<Network>,
    /// What it may do here
    pub allow: Vec<Service>,
    /// Where it may have images sent by C-MOVE; none: to any listed AE with an address
    pub destinations: Option<Vec<AeTitle>>,
    /// Users of whom one has to identify himself; empty: as [`Settings::identity`] says
    pub users: Vec<String>,
    /// What to do with its differing duplicates
    pub duplicates: DuplicatePolicy,
    /// Issuer of Patient ID for its objects that name none
    pub issuer_of_patient_id: Option<String>,
    /// Images of a series may be sent before all of it is there
    pub partial_series: bool,
    /// Its rejection notes are obeyed; of anybody else they wait for a person
    pub may_reject: bool,
    /// Transfer syntaxes in which it prefers what it retrieves, the best first
    pub transfer_syntaxes: Vec<Uid>,
    /// How it is connected to over TLS; none: plain DICOM
    pub tls: Option<PeerTls>,
    /// Certificates of which it must present one, in both directions; none: it is known by its AE title
    pub certificates: Vec<Binding>,
    /// Associations that C-MOVEs may have with it at once; one more C-MOVE waits
    pub max_associations: usize,
    /// The fastest tier in which what S3 has archived is restored for it; none: nothing is
    pub restore: Option<RestoreTier>,
    /// Bytes that may be restored for it in any 24 hours; none: no limit
    pub restore_budget_per_day: Option<u64>,
    /// How long a retrieve of its images waits for restores; none: [`Settings::retrieve_wait`]
    pub retrieve_wait: Option<Duration>,
    /// How long after a C-MOVE images may still arrive there that had to be restored first; none: they are not delivered later
    pub deliver_later: Option<Duration>,
}

/// Services that an AE may be allowed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Service {
    /// C-ECHO
    Echo,
    /// C-STORE
    Store,
    /// C-FIND
    Find,
    /// C-MOVE
    Move,
    /// C-GET
    Get,
    /// Storage commitment: N-ACTION
    Commit,
}

impl Service {
    /// All of them.
    pub const ALL: [Service; 6] = [
        Service::Echo,
        Service::Store,
        Service::Find,
        Service::Move,
        Service::Get,
        Service::Commit,
    ];
}

impl Peer {
    /// An AE with this title that is no destination, may use every service, and has the default of everything else.
    pub fn new(title: AeTitle) -> Peer {
        Peer {
            title,
            address: None,
            from: Vec::new(),
            allow: Service::ALL.to_vec(),
            destinations: None,
            users: Vec::new(),
            duplicates: DuplicatePolicy::default(),
            issuer_of_patient_id: None,
            partial_series: false,
            may_reject: false,
            transfer_syntaxes: Vec::new(),
            tls: None,
            certificates: Vec::new(),
            max_associations: 4,
            restore: Some(RestoreTier::Expedited),
            restore_budget_per_day: None,
            retrieve_wait: None,
            deliver_later: None,
        }
    }

    /// Whether it may call from an address; one that is not known is none of a list.
    pub fn may_call_from(&self, address: Option<IpAddr>) -> bool {
        self.from.is_empty() || address.is_some_and(|address| self.from.iter().any(|network| network.contains(address)))
    }
}

impl Settings {
    /// A node with this AE title and the default of everything else: loopback only, no listed AE, any AE may do anything.
    pub fn new(ae_title: AeTitle) -> Settings {
        Settings {
            ae_title,
            aliases: Vec::new(),
            check_called_ae: true,
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 11112))),
            tls_listen: None,
            #[cfg(feature = "archive")]
            tls: None,
            max_associations: 200,
            unknown_ae: UnknownAe::Allow,
            accept_unknown_sop_classes: true,
            peers: Vec::new(),
            identity: IdentityPolicy::default(),
            users: Vec::new(),
            timers: Timers::default(),
            max_pdu: 131_072,
            find_cap: 10_000,
            find_limit: Duration::from_secs(20),
            pending_interval: Duration::from_secs(5),
            retrieve_wait: Duration::from_secs(300),
            delivery_expire: Duration::from_secs(7 * 86_400),
            deep_archive: Availability::Nearline,
            #[cfg(feature = "archive")]
            codec: None,
            commitment: Commitment::default(),
        }
    }

    /// The listed AE with this title.
    pub fn peer(&self, title: &AeTitle) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.title == *title)
    }

    /// Whether an AE may have images sent to another one.
    pub fn may_send(&self, title: &AeTitle, destination: &AeTitle) -> bool {
        let listed = self.peer(title).and_then(|peer| peer.destinations.as_ref());
        listed.is_none_or(|destinations| destinations.contains(destination))
    }

    /// Whether an AE may use a service.
    pub fn allows(&self, title: &AeTitle, service: Service) -> bool {
        match (self.peer(title), self.unknown_ae) {
            (Some(peer), _) => peer.allow.contains(&service),
            (None, UnknownAe::Allow) => true,
            (None, UnknownAe::Store) => matches!(service, Service::Echo | Service::Store | Service::Commit),
            (None, UnknownAe::Reject) => false,
        }
    }
}
