//! The least that a recall does with the bytes of a pack: files as long as a CT slice, each flushed, renamed and its directory flushed, four at once, and, if that is wanted,
//! each sent from memory to a destination over one association. Nothing is checked, hashed, looked up or put on record.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::image::{TRANSFER_SYNTAX, sop_class};
use crate::limit::{aligned, flushed};
use crate::receiver::Receiver;
use crate::wire::{Association, Command, Proposed, Target, uid};

/// Bytes of a file: a CT slice with its header.
const FILE: usize = 527_000;

/// Files that are written at once.
const WRITERS: usize = 4;

/// Files that wait to be sent: as many as a node keeps in memory.
const WAITING: usize = 24;

/// C-STORE-RQ
const C_STORE: u16 = 0x0001;

/// Where what comes is kept, and sent.
pub(crate) struct Recall {
    directory: PathBuf,
    next: AtomicU64,
    writers: Arc<Semaphore>,
    destination: Option<Destination>,
}

/// A receiver of ours, and who sends to it.
struct Destination {
    queue: mpsc::Sender<Arc<Piece>>,
    sender: thread::JoinHandle<Result<u64>>,
    receiver: Receiver,
}

/// What is in a file, where it can go past the page cache.
struct Piece {
    memory: Vec<u8>,
    start: usize,
}

/// Files of one object.
pub(crate) struct Keeping<'a> {
    recall: &'a Recall,
    piece: Piece,
    written: Vec<JoinHandle<Result<()>>>,
}

impl Recall {
    /// With a port, what is kept is received there as well.
    pub(crate) fn start(directory: &Path, receive: Option<u16>) -> Result<Recall> {
        Ok(Recall {
            directory: directory.to_owned(),
            next: AtomicU64::new(0),
            writers: Arc::new(Semaphore::new(WRITERS)),
            destination: receive.map(Destination::start).transpose()?,
        })
    }

    pub(crate) fn keep(&self) -> Keeping<'_> {
        Keeping {
            recall: self,
            piece: Piece::new(),
            written: Vec::new(),
        }
    }

    /// Waits until all is sent.
    pub(crate) async fn end(self) -> Result<()> {
        match self.destination {
            Some(destination) => spawn_blocking(|| destination.end()).await?,
            None => Ok(()),
        }
    }
}

impl Destination {
    fn start(port: u16) -> Result<Destination> {
        let receiver = Receiver::listen(port, Instant::now())?;
        let (queue, waiting) = mpsc::channel(WAITING);
        Ok(Destination {
            queue,
            sender: thread::spawn(move || send(port, waiting)),
            receiver,
        })
    }

    fn end(self) -> Result<()> {
        drop(self.queue);
        let sent = self.sender.join().map_err(|_| anyhow!("the sender panicked"))??;
        let (received, _) = self.receiver.received();
        if received != sent {
            bail!("{received} of {sent} files came");
        }
        Ok(())
    }
}

fn send(port: u16, mut queue: mpsc::Receiver<Arc<Piece>>) -> Result<u64> {
    let class = sop_class("CT");
    let target = Target {
        port,
        called: "SINK".to_owned(),
        calling: "BENCH".to_owned(),
    };
    let proposed = [Proposed {
        abstract_syntax: class,
        transfer_syntax: TRANSFER_SYNTAX,
        role_scp: false,
    }];
    let mut association = Association::request(&target, &proposed)?;
    let context = association.context(class)?;
    let mut sent = 0;
    for id in (1..=u16::MAX).cycle() {
        let Some(piece) = queue.blocking_recv() else { break };
        let command = Command::request(C_STORE, class, id, true).with(0x1000, uid("2.25.1"));
        association.send(context, &command, &[piece.bytes()])?;
        let answer = association.receive(None)?.context("the receiver released the association")?;
        match answer.command.number(0x0900) {
            Some(0) => sent += 1,
            status => bail!("a file was answered with {status:04X?}"),
        }
    }
    association.release()?;
    Ok(sent)
}

impl Piece {
    fn new() -> Piece {
        let (memory, start) = aligned(FILE);
        Piece { memory, start }
    }

    fn bytes(&self) -> &[u8] {
        &self.memory[self.start..]
    }
}

impl Keeping<'_> {
    pub(crate) async fn take(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(FILE - self.piece.bytes().len()));
            self.piece.memory.extend_from_slice(now);
            bytes = rest;
            if self.piece.bytes().len() == FILE {
                self.write().await?;
            }
        }
        Ok(())
    }

    async fn write(&mut self) -> Result<()> {
        let piece = Arc::new(std::mem::replace(&mut self.piece, Piece::new()));
        let turn = Arc::clone(&self.recall.writers).acquire_owned().await?;
        let (directory, number) = (self.recall.directory.clone(), self.recall.next.fetch_add(1, Ordering::Relaxed));
        let written = Arc::clone(&piece);
        self.written.push(spawn_blocking(move || {
            let _turn = turn;
            flushed(&directory, number, written.bytes(), true)
        }));
        if let Some(destination) = &self.recall.destination {
            // Why the sender has ended, if it has, is told at the end.
            let _ = destination.queue.send(piece).await;
        }
        Ok(())
    }

    /// Waits until all is flushed.
    pub(crate) async fn end(mut self) -> Result<()> {
        if !self.piece.bytes().is_empty() {
            self.write().await?;
        }
        for written in self.written {
            written.await??;
        }
        Ok(())
    }
}
