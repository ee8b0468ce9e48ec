//! A node on a temporary directory.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use filmroom_index::catalogue::Catalogue;
use filmroom_index::clock::Clock;
use filmroom_index::model::DuplicatePolicy;
use filmroom_index::part10::FileMeta;
use filmroom_scp::association::{Association, AssociationError, Event};
use filmroom_scp::dimse::{Command, Request};
use filmroom_scp::negotiate::{Acceptor, Proposal, ProposedContext};
use filmroom_scp::services::{Context, find, retrieve};
use filmroom_scp::settings::{Peer, Settings, Timers};
use filmroom_tiering::Archive;
use filmroom_tiering::archive::{Sender, Senders};
use filmroom_tiering::cold::{ColdLocation, ColdSettings};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::images::{Image, PATIENCE, ae, uid};

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
            page_cache: false,
            high_watermark: 1.0,
            low_watermark: 1.0,
            evict_after: Duration::from_secs(1 << 30),
            recall_budget: 1 << 30,
            senders: Senders {
                own: sender("FILMROOM"),
                listed: Vec::new(),
                may_reject: Vec::new(),
            },
            cold: Some(ColdSettings {
                timeout: Duration::from_secs(10),
                attempts: 1,
                ..ColdSettings::new(ColdLocation::Directory(dir.path().join("cold")))
            }),
            layout: filmroom_tiering::pack::Layout::Pack,
            offload_after: Duration::from_secs(1 << 30),
            mover_interval: Duration::from_secs(3600),
            rules: filmroom_tiering::rules::Rules::default(),
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
                desk: Arc::default(),
                places: Arc::default(),
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

    /// Nobody can open a hot file any more.
    pub(crate) fn hide_files(&self) {
        let data = self.dir.path().join("data");
        std::fs::rename(data.join("hot"), data.join("hidden")).unwrap();
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
        check_called_ae: false,
        listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        max_pdu: 16_384,
        find_cap: 1000,
        find_limit: PATIENCE,
        ..Settings::new(ae("FILMROOM"))
    }
}

pub(crate) fn peer(title: &str, address: Option<SocketAddr>) -> Peer {
    Peer {
        address: address.map(|address| (address.ip().to_string(), address.port())),
        ..Peer::new(ae(title))
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send>(node: Context, stream: S) -> Result<(), AssociationError> {
    let acceptor = Acceptor {
        settings: Arc::clone(&node.settings),
        full: false,
        certificate: None,
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
