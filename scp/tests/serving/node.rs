//! A node on a free port with an archive in a directory of its own, and what talks to it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use filmroom_index::catalogue::{Catalogue, Located};
use filmroom_index::clock::Clock;
use filmroom_index::model::{AeTitle, DuplicatePolicy, Uid};
use filmroom_index::part10::read_preface;
use filmroom_scp::association::{Association, AssociationError, Event, Outgoing};
use filmroom_scp::dimse::{CStoreRequest, CStoreResponse, Command, Priority, Request, Response};
use filmroom_scp::negotiate::{Proposal, ProposedContext};
use filmroom_scp::server::Server;
use filmroom_scp::settings::{Settings, Timers};
use filmroom_tiering::Archive;
use filmroom_tiering::archive::{Sender, Senders, Settings as ArchiveSettings};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long the node lets operations end when it stops.
pub(crate) const GRACE: Duration = Duration::from_secs(2);

/// An object of two megabytes: more than is gathered before the first write to disk.
pub(crate) fn large() -> Part10 {
    let mut file = fixture("ts/LittleEndianExplicitTransferSyntax_1.2.840.10008.1.2.1.dcm");
    // Data Set Trailing Padding (PS3.10 7.2).
    let padding = 1_800_000_u32;
    file.data_set.extend([0xFC, 0xFF, 0xFC, 0xFF, b'O', b'B', 0, 0]);
    file.data_set.extend(padding.to_le_bytes());
    file.data_set.extend(vec![0; padding as usize]);
    file
}

/// So many bytes of it that some of them are on the disk.
pub(crate) const HALF: usize = 1_500_000;

/// A running node.
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    pub(crate) archive: Archive,
    pub(crate) stop: CancellationToken,
    pub(crate) running: JoinHandle<()>,
    pub(crate) data: TempDir,
}

pub(crate) fn title(text: &str) -> AeTitle {
    AeTitle::parse(text).unwrap()
}

pub(crate) fn uid(text: &str) -> Uid {
    Uid::parse(text).unwrap()
}

pub(crate) fn settings() -> Settings {
    Settings {
        listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        max_associations: 50,
        find_cap: 1000,
        pending_interval: Duration::from_secs(1),
        ..Settings::new(title("FILMROOM"))
    }
}

/// A node that keeps `reserve` bytes of the disk free.
pub(crate) async fn start(settings: Settings, reserve: u64) -> Node {
    let data = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", data.path().join("catalogue.db").display());
    let catalogue = Catalogue::open(&url).await.unwrap();
    let archive_settings = ArchiveSettings {
        data_dir: data.path().to_owned(),
        reserve,
        page_cache: false,
        high_watermark: 0.99,
        low_watermark: 0.98,
        evict_after: Duration::from_secs(86_400),
        recall_budget: 1 << 30,
        senders: Senders {
            own: Sender {
                source: settings.ae_title.clone(),
                default_issuer: None,
                duplicates: DuplicatePolicy::Correct,
            },
            listed: vec![],
            may_reject: vec![],
        },
        cold: None,
        layout: filmroom_tiering::pack::Layout::Pack,
        offload_after: Duration::from_secs(3600),
        mover_interval: Duration::from_secs(60),
        rules: filmroom_tiering::rules::Rules::default(),
    };
    let archive = Archive::open(archive_settings, catalogue, Clock::System).await.unwrap();
    let server = Server::bind(Arc::new(settings), archive.clone()).await.unwrap();
    let address = server.plain_addr().unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(server.run(stop.clone(), GRACE));
    Node {
        address,
        archive,
        stop,
        running,
        data,
    }
}

impl Node {
    /// Requests an association as an AE with one transfer syntax a context.
    pub(crate) async fn associate(&self, calling: &str, contexts: &[(&str, &str)]) -> Result<Association<TcpStream>, AssociationError> {
        let proposal = Proposal {
            calling: title(calling),
            called: title("FILMROOM"),
            contexts: contexts
                .iter()
                .map(|(class, syntax)| ProposedContext {
                    abstract_syntax: uid(class),
                    transfer_syntaxes: vec![uid(syntax)],
                    also_scp: false,
                })
                .collect(),
            max_pdu: 16_384,
        };
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Association::request(stream, None, &proposal, Timers::default()).await
    }

    /// Associates for the kind of one file, sends it, releases.
    pub(crate) async fn store_as(&self, calling: &str, file: &Part10) -> CStoreResponse {
        let mut association = self.associate(calling, &[(&file.sop_class, &file.transfer_syntax)]).await.unwrap();
        let response = store(&mut association, 1, &file.request(), &file.data_set).await;
        association.release().await.unwrap();
        response
    }

    /// Everything that is served of a study.
    pub(crate) async fn served(&self, study: &str) -> Vec<Located> {
        use dicom_core::VR;
        use dicom_dictionary_std::tags;
        let mut identifier = filmroom_index::dataset::DataSet::new();
        identifier.put_text(tags::QUERY_RETRIEVE_LEVEL, VR::CS, "STUDY");
        identifier.put_text(tags::STUDY_INSTANCE_UID, VR::UI, study);
        let query = filmroom_index::query::Query::retrieve(filmroom_index::query::Root::Study, &identifier).unwrap();
        self.archive.catalogue().locate(self.archive.node(), &query).await.unwrap()
    }

    /// The file of a stored object.
    pub(crate) fn file_of(&self, instance: &Located) -> Part10 {
        let name = format!("{}.dcm", instance.object);
        let path = files(&self.data.path().join("hot")).into_iter().find(|path| path.ends_with(&name));
        take_apart(&path.unwrap()).unwrap()
    }

    /// Files in `incoming/`.
    pub(crate) fn incoming(&self) -> usize {
        files(&self.data.path().join("incoming")).len()
    }

    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.running.await.unwrap();
        self.archive.close().await;
    }
}

/// Sends one object and reads the answer.
pub(crate) async fn store(
    association: &mut Association<TcpStream>,
    context: u8,
    request: &CStoreRequest,
    data_set: &[u8],
) -> CStoreResponse {
    let command = Command::Request(Request::Store(request.clone()));
    association.send(context, &command, Some(Outgoing::Bytes(data_set))).await.unwrap();
    match answer(association).await {
        Response::Store(response) => {
            assert_eq!(response.message_id, request.message_id);
            response
        }
        other => panic!("{other:?}"),
    }
}

/// The next message, which is a response.
pub(crate) async fn answer(association: &mut Association<TcpStream>) -> Response {
    match association.receive().await.unwrap() {
        Event::Message {
            command: Command::Response(response),
            ..
        } => response,
        other => panic!("{other:?}"),
    }
}

/// A DICOM file, taken apart.
pub(crate) struct Part10 {
    pub(crate) sop_class: String,
    pub(crate) sop_instance: String,
    pub(crate) transfer_syntax: String,
    pub(crate) data_set: Vec<u8>,
}

impl Part10 {
    /// The C-STORE-RQ for it.
    pub(crate) fn request(&self) -> CStoreRequest {
        CStoreRequest {
            message_id: 1,
            sop_class: self.sop_class.clone(),
            sop_instance: self.sop_instance.clone(),
            priority: Priority::Medium,
            move_originator: None,
        }
    }
}

/// A file whose meta group names everything.
pub(crate) fn take_apart(path: &Path) -> Option<Part10> {
    let bytes = std::fs::read(path).unwrap();
    let preface = read_preface(&bytes[..bytes.len().min(64 * 1024)]).ok()?;
    let offset = usize::try_from(preface.data_set_offset).unwrap();
    Some(Part10 {
        sop_class: preface.sop_class?.to_string(),
        sop_instance: preface.sop_instance?.to_string(),
        transfer_syntax: preface.transfer_syntax.to_string(),
        data_set: bytes[offset..].to_vec(),
    })
}

pub(crate) fn fixture(name: &str) -> Part10 {
    take_apart(&fixtures().join(name)).unwrap()
}

pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures")
}

/// All files below a directory, in order.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Waits until a condition holds, ten seconds at most.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}: never");
}
