//! Decoding in a child process: the node's own program, started with another word.
//!
//! # Mechanics
//! [`Child`] starts the process with the first frame and talks to it over its standard input and output, frame after frame. A thread watches the clock: a child
//! that has not answered in time is killed, which ends the reading of its answer. [`serve`] is the child: it limits its own memory and processor time, then
//! answers until its input ends.
//!
//! # Invariants
//! - What a codec does to the child (crash, hang, eat memory) is an error of one frame here. The next frame gets a new child.
//! - A child never outlives its [`Child`], nor its parent for long: its input ends with it.

use std::ffi::OsString;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::PathBuf;
use std::process::{Child as Process, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, setrlimit};

use super::{CodecError, Format, decode, protocol};
use crate::input::Patience;

/// How long one frame may take: the largest that is decoded here needs a tenth of it.
const FRAME: Duration = Duration::from_secs(60);

/// Address space of the child, bytes: OpenJPEG needs four bytes for each sample of a frame of [`super::MAX_FRAME`], and as much again.
const MEMORY: u64 = 4 << 30;

/// Processor time of the child, seconds: more than a retrieve of a hundred thousand frames needs. It ends a child whose parent is gone; a frame that
/// takes too long is ended by [`FRAME`].
const PROCESSOR: u64 = 24 * 3600;

/// How the child is started: a program that calls [`serve`] when it is called like this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its path
    pub program: PathBuf,
    /// Its arguments
    pub arguments: Vec<OsString>,
}

/// A child, once there was something to decode.
#[derive(Debug)]
pub(super) struct Child {
    program: Program,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Arc<Mutex<Process>>,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// Until when the watch lets it live; none: it is idle
    watch: Sender<Option<Instant>>,
}

impl Child {
    pub(super) fn new(program: Program) -> Child {
        Child { program, running: None }
    }

    pub(super) fn decode(&mut self, format: &Format, frame: &[u8], patience: &Patience) -> Result<Vec<u8>, CodecError> {
        let mut running = match self.running.take() {
            Some(running) => running,
            None => Running::start(&self.program).map_err(|e| CodecError::Ended(format!("it cannot be started: {e}")))?,
        };
        let until = patience.until.min(Instant::now() + FRAME);
        match running.decode(format, frame, until) {
            Ok(result) => {
                self.running = Some(running);
                result
            }
            Err(error) => Err(CodecError::Ended(running.end(&error))),
        }
    }
}

impl Running {
    fn start(program: &Program) -> io::Result<Running> {
        let mut child = Command::new(&program.program)
            .args(&program.arguments)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("no pipes"));
        };
        let child = Arc::new(Mutex::new(child));
        let (watch, deadlines) = channel();
        let watched = Arc::clone(&child);
        std::thread::Builder::new()
            .name("codec watch".to_owned())
            .spawn(move || keep_watch(&watched, &deadlines))?;
        Ok(Running {
            child,
            input,
            output: BufReader::with_capacity(64 * 1024, output),
            watch,
        })
    }

    fn decode(&mut self, format: &Format, frame: &[u8], until: Instant) -> io::Result<Result<Vec<u8>, CodecError>> {
        self.watch.send(Some(until)).map_err(io::Error::other)?;
        protocol::ask(&mut self.input, format, frame)?;
        let answered = protocol::answered(&mut self.output, format)?;
        self.watch.send(None).map_err(io::Error::other)?;
        Ok(answered)
    }

    /// What became of a child that did not answer.
    fn end(self, error: &io::Error) -> String {
        kill(&self.child);
        let ended = self.child.lock().unwrap_or_else(PoisonError::into_inner).wait();
        ended.map_or_else(|_| error.to_string(), |status| format!("{status} ({error})"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        kill(&self.child);
        // Killed, it is gone at once; nobody else would take its exit status.
        let _ = self.child.lock().unwrap_or_else(PoisonError::into_inner).wait();
    }
}

fn kill(child: &Mutex<Process>) {
    // One that has ended already cannot be killed, and need not be.
    let _ = child.lock().unwrap_or_else(PoisonError::into_inner).kill();
}

/// Kills the child when a deadline passes; ends when nobody gives deadlines any more.
fn keep_watch(child: &Mutex<Process>, deadlines: &Receiver<Option<Instant>>) {
    let mut until: Option<Instant> = None;
    loop {
        let next = match until {
            None => deadlines.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(until) => deadlines.recv_timeout(until.saturating_duration_since(Instant::now())),
        };
        match next {
            Ok(deadline) => until = deadline,
            Err(RecvTimeoutError::Timeout) => {
                kill(child);
                until = None;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// The child's side: decodes what standard input asks for until it ends. To be called before anything else is started in the process.
pub fn serve() -> io::Result<()> {
    let limit = |value| Rlimit {
        current: Some(value),
        maximum: Some(value),
    };
    setrlimit(Resource::As, limit(MEMORY))?;
    setrlimit(Resource::Cpu, limit(PROCESSOR))?;
    // A crash here is nothing to keep.
    setrlimit(Resource::Core, limit(0))?;
    let mut input = BufReader::new(io::stdin().lock());
    let mut output = BufWriter::new(io::stdout().lock());
    while let Some((format, frame)) = protocol::asked(&mut input)? {
        let decoded = decode::decode(&format, &frame);
        drop(frame);
        protocol::answer(&mut output, &decoded)?;
    }
    output.flush()
}
