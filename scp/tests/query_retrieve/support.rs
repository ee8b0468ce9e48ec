//! A node on a temporary directory, a requestor on a pipe, and a scripted destination on loopback.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use dicom_core::{Tag, VR};
use dicom_dictionary_std::{tags, uids};
use filmroom_index::catalogue::Catalogue;
use filmroom_index::clock::Clock;
use filmroom_index::dataset::{DataSet, Value};
use filmroom_index::header::scan;
use filmroom_index::model::{AeTitle, Availability, DuplicatePolicy, Uid, transfer_syntax};
use filmroom_index::part10::FileMeta;
use filmroom_scp::association::{Association, AssociationError, Event, Outgoing};
use filmroom_scp::dimse::{
    CFindRequest, CFindResponse, CStoreRequest, CStoreResponse, Command, Priority, Request, Response, RetrieveResponse, Status, StatusClass,
};
use filmroom_scp::negotiate::{Acceptor, Proposal, ProposedContext};
use filmroom_scp::services::{Context, find, retrieve};
use filmroom_scp::settings::{Peer, Service, Settings, Timers, UnknownAe};
use filmroom_tiering::Archive;
use filmroom_tiering::archive::{Sender, Senders};
use filmroom_tiering::cold::{ColdLocation, ColdSettings};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) const FIND: &str = uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND;
pub(crate) const MOVE: &str = uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE;
pub(crate) const PATIENT_MOVE: &str = uids::PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE;
pub(crate) const GET: &str = uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET;
pub(crate) const CT: &str = uids::CT_IMAGE_STORAGE;
pub(crate) const MR: &str = uids::MR_IMAGE_STORAGE;

/// Long enough for a loaded machine, short enough for a test that hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn uid(text: &str) -> Uid {
    Uid::parse(text).unwrap()
}

pub(crate) fn ae(text: &str) -> AeTitle {
    AeTitle::parse(text).unwrap()
}

/// One image, as a test describes it.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) patient_id: &'static str,
    pub(crate) issuer: &'static str,
    pub(crate) name: &'static str,
    pub(crate) study: u32,
    pub(crate) series: u32,
    pub(crate) number: u32,
    pub(crate) sop_class: &'static str,
    pub(crate) transfer_syntax: &'static str,
    pub(crate) pixels: usize,
}

impl Default for Image {
    fn default() -> Image {
        Image {
            patient_id: "P1",
            issuer: "",
            name: "DOE^JANE",
            study: 1,
            series: 1,
            number: 1,
            sop_class: CT,
            transfer_syntax: transfer_syntax::EXPLICIT_LITTLE,
            pixels: 512,
        }
    }
}

/// So many images of one series.
pub(crate) fn series(image: Image, number: u32) -> Vec<Image> {
    (1..=number).map(|number| Image { number, ..image.clone() }).collect()
}

impl Image {
    pub(crate) fn study_uid(&self) -> String {
        format!("1.2.826.0.1.3680043.10.1.{}", self.study)
    }

    pub(crate) fn series_uid(&self) -> String {
        format!("{}.{}", self.study_uid(), self.series)
    }

    pub(crate) fn uid(&self) -> String {
        format!("{}.{}", self.series_uid(), self.number)
    }

    pub(crate) fn data_set(&self) -> DataSet {
        let mut set = DataSet::new();
        let texts = [
            (tags::SOP_CLASS_UID, VR::UI, self.sop_class.to_owned()),
            (tags::SOP_INSTANCE_UID, VR::UI, self.uid()),
            (tags::STUDY_DATE, VR::DA, format!("202601{:02}", 1 + self.study % 28)),
            (tags::MODALITY, VR::CS, "CT".to_owned()),
            (tags::PATIENT_NAME, VR::PN, self.name.to_owned()),
            (tags::PATIENT_ID, VR::LO, self.patient_id.to_owned()),
            (tags::ISSUER_OF_PATIENT_ID, VR::LO, self.issuer.to_owned()),
            (tags::STUDY_INSTANCE_UID, VR::UI, self.study_uid()),
            (tags::SERIES_INSTANCE_UID, VR::UI, self.series_uid()),
            (tags::INSTANCE_NUMBER, VR::IS, self.number.to_string()),
        ];
        for (tag, vr, text) in texts {
            set.put_text(tag, vr, text);
        }
        let pixels = (0..self.pixels).map(|at| u8::try_from(at % 251).unwrap()).collect();
        set.put(tags::PIXEL_DATA, VR::OW, Value::Bytes(pixels));
        set
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.data_set().encode(transfer_syntax::encoding(&uid(self.transfer_syntax)))
    }
}

/// A node.
pub(crate) struct Lab {
    pub(crate) context: Context,
    dir: TempDir,
    /// Stops the mover
    _stop: DropGuard,
    /// The task that serves the last association
    serving: Mutex<Option<JoinHandle<Result<(), AssociationError>>>>,
}

impl Lab {
    pub(crate) async fn new(configure: impl FnOnce(&mut Settings)) -> Lab {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = settings();
        configure(&mut settings);
        let catalogue = Catalogue::open(&format!("sqlite:{}", dir.path().join("catalogue.db").display()))
            .await
            .unwrap();
        let tiering = filmroom_tiering::Settings {
            data_dir: dir.path().join("data"),
            reserve: 0,
            high_watermark: 1.0,
            low_watermark: 1.0,
            evict_after: Duration::from_secs(1 << 30),
            recall_budget: 1 << 30,
            senders: Senders {
                own: sender("FILMROOM"),
                listed: Vec::new(),
            },
            cold: Some(ColdSettings {
                location: ColdLocation::Directory(dir.path().join("cold")),
                timeout: Duration::from_secs(10),
                attempts: 1,
            }),
            offload_after: Duration::from_secs(1 << 30),
            mover_interval: Duration::from_secs(3600),
        };
        std::fs::create_dir_all(dir.path().join("cold")).unwrap();
        let archive = Archive::open(tiering, catalogue, Clock::System).await.unwrap();
        let (mover, stop) = (archive.clone(), CancellationToken::new());
        let running = stop.clone();
        tokio::spawn(async move { mover.run(running).await });
        Lab {
            _stop: stop.drop_guard(),
            context: Context {
                settings: Arc::new(settings),
                archive,
            },
            dir,
            serving: Mutex::default(),
        }
    }

    /// Somebody deletes every pack from the cold store.
    pub(crate) fn lose_packs(&self) {
        let mut directories = vec![self.dir.path().join("cold")];
        let mut lost = 0;
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    directories.push(path);
                } else if path.extension().is_some_and(|extension| extension == "zip") {
                    std::fs::remove_file(path).unwrap();
                    lost += 1;
                }
            }
        }
        assert!(lost > 0);
    }

    pub(crate) async fn store(&self, images: &[Image]) {
        for image in images {
            let meta = FileMeta {
                sop_class: uid(image.sop_class),
                sop_instance: uid(&image.uid()),
                transfer_syntax: uid(image.transfer_syntax),
                source: Some(ae("CT1")),
            };
            let mut incoming = self.context.archive.receive(meta).await.unwrap();
            incoming.write(Bytes::from(image.bytes())).await.unwrap();
            let received = incoming.finish().await.unwrap();
            self.context.archive.commit(received, sender("CT1")).await.unwrap();
        }
    }

    /// An association with the node, which serves it as the server does.
    pub(crate) async fn associate(&self, calling: &str, contexts: Vec<ProposedContext>) -> Association<DuplexStream> {
        let (ours, theirs) = tokio::io::duplex(4 * 1024);
        *self.serving.lock().unwrap() = Some(tokio::spawn(serve(self.context.clone(), theirs)));
        let proposal = Proposal {
            calling: ae(calling),
            called: self.context.settings.ae_title.clone(),
            contexts,
            max_pdu: 16_384,
        };
        Association::request(ours, None, &proposal, Timers::default()).await.unwrap()
    }
}

impl Lab {
    /// How the service of the last association ended.
    pub(crate) async fn served(&self) -> Result<(), AssociationError> {
        let serving = self.serving.lock().unwrap().take().unwrap();
        tokio::time::timeout(PATIENCE, serving).await.unwrap().unwrap()
    }
}

fn sender(title: &str) -> Sender {
    Sender {
        source: ae(title),
        default_issuer: None,
        duplicates: DuplicatePolicy::Correct,
    }
}

pub(crate) fn settings() -> Settings {
    Settings {
        ae_title: ae("FILMROOM"),
        aliases: Vec::new(),
        check_called_ae: false,
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        max_associations: 10,
        unknown_ae: UnknownAe::Allow,
        accept_unknown_sop_classes: true,
        peers: Vec::new(),
        timers: Timers::default(),
        max_pdu: 16_384,
        find_cap: 1000,
        find_limit: PATIENCE,
        pending_interval: Duration::from_secs(5),
        deep_archive: Availability::Nearline,
    }
}

pub(crate) fn peer(title: &str, address: Option<SocketAddr>) -> Peer {
    Peer {
        title: ae(title),
        address: address.map(|address| (address.ip().to_string(), address.port())),
        allow: Service::ALL.to_vec(),
        duplicates: DuplicatePolicy::Correct,
        issuer_of_patient_id: None,
        partial_series: false,
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send>(node: Context, stream: S) -> Result<(), AssociationError> {
    let acceptor = Acceptor {
        settings: Arc::clone(&node.settings),
        full: false,
    };
    let mut association = Association::accept(stream, None, &acceptor, node.settings.timers).await?;
    while let Event::Message { context, command } = association.receive().await? {
        match command {
            Command::Request(Request::Find(request)) => find::serve(&node, &mut association, context, request).await?,
            Command::Request(Request::Move(request)) => retrieve::serve_move(&node, &mut association, context, request).await?,
            Command::Request(Request::Get(request)) => retrieve::serve_get(&node, &mut association, context, request).await?,
            other => panic!("{other:?}"),
        }
    }
    Ok(())
}

pub(crate) fn context(abstract_syntax: &str) -> ProposedContext {
    ProposedContext {
        abstract_syntax: uid(abstract_syntax),
        transfer_syntaxes: vec![uid(transfer_syntax::EXPLICIT_LITTLE)],
        also_scp: false,
    }
}

pub(crate) fn storage_context(abstract_syntax: &str, transfer_syntax: &str) -> ProposedContext {
    ProposedContext {
        abstract_syntax: uid(abstract_syntax),
        transfer_syntaxes: vec![uid(transfer_syntax)],
        also_scp: true,
    }
}

/// An identifier of texts.
pub(crate) fn identifier(level: &str, keys: &[(Tag, VR, &str)]) -> DataSet {
    let mut set = DataSet::new();
    set.put_text(tags::QUERY_RETRIEVE_LEVEL, VR::CS, level);
    for (tag, vr, text) in keys {
        let values = text.split('\\').filter(|value| !value.is_empty()).map(str::to_owned).collect();
        set.put(*tag, *vr, Value::Text(values));
    }
    set
}

pub(crate) fn study_key(image: &Image) -> DataSet {
    identifier("STUDY", &[(tags::STUDY_INSTANCE_UID, VR::UI, &image.study_uid())])
}

/// Sends a request with an identifier.
pub(crate) async fn ask<S: AsyncRead + AsyncWrite + Unpin + Send>(
    association: &mut Association<S>,
    request: Request,
    identifier: &DataSet,
) {
    let context = association.contexts().first().unwrap().clone();
    let bytes = identifier.encode(transfer_syntax::encoding(&context.transfer_syntax));
    association
        .send(context.id, &Command::Request(request), Some(Outgoing::Bytes(&bytes)))
        .await
        .unwrap();
}

pub(crate) async fn cancel<S: AsyncRead + AsyncWrite + Unpin + Send>(association: &mut Association<S>, message_id: u16) {
    let context = association.contexts().first().unwrap().id;
    let command = Command::Request(Request::Cancel { message_id });
    association.send(context, &command, None).await.unwrap();
}

/// The next message and its data set.
pub(crate) async fn next<S: AsyncRead + AsyncWrite + Unpin + Send>(association: &mut Association<S>) -> (u8, Command, Vec<u8>) {
    let event = tokio::time::timeout(PATIENCE, association.receive()).await.unwrap().unwrap();
    let Event::Message { context, command } = event else {
        panic!("released");
    };
    let bytes = association.read_data_set(1 << 24).await.unwrap().unwrap();
    (context, command, bytes)
}

/// A C-FIND and all its responses: the answers, and the final one.
pub(crate) async fn find<S: AsyncRead + AsyncWrite + Unpin + Send>(
    association: &mut Association<S>,
    sop_class: &str,
    identifier: &DataSet,
) -> (Vec<(Status, DataSet)>, CFindResponse) {
    let request = Request::Find(CFindRequest {
        message_id: 1,
        sop_class: sop_class.to_owned(),
        priority: Priority::Medium,
    });
    ask(association, request, identifier).await;
    let mut answers = Vec::new();
    loop {
        let (_, command, bytes) = next(association).await;
        let Command::Response(Response::Find(response)) = command else {
            panic!("{command:?}");
        };
        if response.status.class() != StatusClass::Pending {
            return (answers, response);
        }
        let answer = scan(&bytes, &uid(transfer_syntax::EXPLICIT_LITTLE)).unwrap().attributes;
        answers.push((response.status, answer));
    }
}

/// A response to a C-MOVE or C-GET, and the Failed SOP Instance UID List of its data set.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) retrieve: RetrieveResponse,
    pub(crate) failed: Vec<String>,
}

impl Reply {
    /// remaining, completed, failed, warning
    pub(crate) fn counts(&self) -> Option<[u16; 4]> {
        let counts = self.retrieve.counts?;
        Some([counts.remaining, counts.completed, counts.failed, counts.warning])
    }
}

/// Reads a message as a response to a retrieve.
pub(crate) fn reply(command: Command, bytes: &[u8]) -> Reply {
    let retrieve = match command {
        Command::Response(Response::Move(response)) => response.retrieve,
        Command::Response(Response::Get(response)) => response.retrieve,
        other => panic!("{other:?}"),
    };
    let failed = match bytes {
        [] => Vec::new(),
        bytes => {
            let set = scan(bytes, &uid(transfer_syntax::EXPLICIT_LITTLE)).unwrap().attributes;
            assert_eq!(set.len(), 1, "{set:?}");
            set.texts(tags::FAILED_SOP_INSTANCE_UID_LIST).to_vec()
        }
    };
    Reply { retrieve, failed }
}

/// All responses to a retrieve, the final one last.
pub(crate) async fn replies<S: AsyncRead + AsyncWrite + Unpin + Send>(association: &mut Association<S>) -> (Vec<Reply>, Reply) {
    let mut pendings = Vec::new();
    loop {
        let (_, command, bytes) = next(association).await;
        let reply = reply(command, &bytes);
        if reply.retrieve.status != Status::Pending {
            return (pendings, reply);
        }
        assert!(reply.failed.is_empty());
        pendings.push(reply);
    }
}

/// What a scripted destination does with an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Act {
    Answer(Status),
    Abort,
}

/// A C-STORE and its data set.
pub(crate) type Stored = (CStoreRequest, Vec<u8>);

/// A Storage SCP on loopback.
pub(crate) struct Destination {
    pub(crate) address: SocketAddr,
    /// Requests that were answered, with their data sets
    pub(crate) stored: Arc<Mutex<Vec<Stored>>>,
    /// Each C-STORE waits for a permit
    pub(crate) gate: Arc<Semaphore>,
}

impl Destination {
    /// A destination that never waits.
    pub(crate) async fn open(script: impl Fn(&CStoreRequest) -> Act + Send + Sync + 'static) -> Destination {
        let destination = Destination::gated(script).await;
        destination.gate.add_permits(1 << 20);
        destination
    }

    /// A destination that answers as it is permitted.
    pub(crate) async fn gated(script: impl Fn(&CStoreRequest) -> Act + Send + Sync + 'static) -> Destination {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let destination = Destination {
            address: listener.local_addr().unwrap(),
            stored: Arc::default(),
            gate: Arc::new(Semaphore::new(0)),
        };
        let (stored, gate, script) = (Arc::clone(&destination.stored), Arc::clone(&destination.gate), Arc::new(script));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (stored, gate, script) = (Arc::clone(&stored), Arc::clone(&gate), Arc::clone(&script));
                tokio::spawn(async move {
                    let acceptor = Acceptor {
                        settings: Arc::new(Settings {
                            accept_unknown_sop_classes: false,
                            ..settings()
                        }),
                        full: false,
                    };
                    let mut association = Association::accept(stream, None, &acceptor, Timers::default()).await.unwrap();
                    while let Ok(Event::Message { context, command }) = association.receive().await {
                        let Command::Request(Request::Store(request)) = command else {
                            panic!("{command:?}");
                        };
                        let bytes = association.read_data_set(1 << 24).await.unwrap().unwrap();
                        gate.acquire().await.unwrap().forget();
                        let status = match script(&request) {
                            Act::Answer(status) => status,
                            Act::Abort => return association.abort().await,
                        };
                        stored.lock().unwrap().push((request.clone(), bytes));
                        let response = Response::Store(CStoreResponse {
                            message_id: request.message_id,
                            sop_class: request.sop_class,
                            sop_instance: request.sop_instance,
                            status,
                            comment: None,
                        });
                        if association.send(context, &Command::Response(response), None).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        destination
    }

    pub(crate) fn count(&self) -> usize {
        self.stored.lock().unwrap().len()
    }
}
