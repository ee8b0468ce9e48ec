//! What one retrieval does, with the series as the unit of release.
//!
//! # Mechanics
//! Series that are on disk leave at once, in order. Of the others [`SERIES`] at a time are brought here: the flights of all packs of a series are
//! boarded together, and its first image leaves when every one of them is known to be readable. A file that is not where the catalogue says is
//! looked for in its pack. Series whose packs are archived wait apart ([`super::parking`]), and take no place of the others.
//!
//! # Invariants
//! - Every instance gets one answer.
//! - What keeps a series from being complete for now (archived, the cold store down, no disk) withholds all of it, unless partial series are wanted. What is
//!   damaged or out of reach fails alone: one lost image must not lock away a thousand.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use filmroom_index::catalogue::{Located, SeriesKey};
use filmroom_index::model::ObjectId;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::RetrieveTerms;
use super::flight::{Arrived, Event};
use super::parking::Parked;
use super::round::{Round, withholds};
use super::survey::{self, Survey};
use crate::archive::Inner;
use crate::error::RetrieveError;
use crate::hot::{Buffers, DataSetReader};
use crate::restore::ArchivedPack;

/// Series that one retrieval brings here at once.
const SERIES: usize = 4;

/// Hot files that are opened and read ahead of those that wait to be sent: a disk has several at once sooner than one after the other.
const AHEAD: usize = 3;

/// How often a series is looked at: an instance may land and be evicted, or a flight may have passed it.
const ROUNDS: usize = 5;

/// An answer: which instance, its data set or why not, and the room that it takes until it is taken over.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) index: usize,
    pub(super) outcome: Result<DataSetReader, RetrieveError>,
    pub(super) _room: Option<Arc<Arrived>>,
}

/// One retrieval's work.
pub(super) struct Errand {
    pub(super) node: Arc<Inner>,
    pub(super) instances: Arc<[Located]>,
    pub(super) terms: RetrieveTerms,
    /// What is recalled has to become hot.
    pub(super) keep: bool,
    /// What it needs restored is over the budget: nothing more is asked for.
    pub(super) over_budget: AtomicBool,
    /// Until when it may wait for restores.
    pub(super) deadline: Option<Instant>,
    pub(super) answers: mpsc::Sender<Answer>,
    /// Where instances are by now whose packs were replaced meanwhile, by index.
    pub(super) moved: Mutex<HashMap<usize, Located>>,
}

impl Errand {
    pub(super) async fn run(self) {
        let errand = &self;
        let series = by_series(&self.instances);
        let keys: Vec<SeriesKey> = series.iter().map(|(key, _)| *key).collect();
        let members = series.into_iter().map(|(_, members)| members);
        let (hot, cold): (Vec<_>, Vec<_>) = members.partition(|members| members.iter().all(|i| errand.instance(*i).is_some_and(|i| i.hot)));
        let bring = async { errand.bring_all(errand.ask_together(cold).await).await };
        let (missing, (), ()) = tokio::join!(errand.send_hot_series(hot), bring, errand.touch(&keys));
        errand.bring_all(missing).await;
    }

    pub(super) fn instance(&self, index: usize) -> Option<&Located> {
        self.instances.get(index)
    }

    /// An instance, with its place as it is known now.
    pub(super) fn located(&self, index: usize) -> Option<Located> {
        let moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        moved.get(&index).cloned().or_else(|| self.instance(index).cloned())
    }

    /// Looks for instances whose pack was replaced. Those that are not served any more are answered; returns these.
    async fn relocate(&self, members: &[usize]) -> Vec<usize> {
        let objects: Vec<ObjectId> = members.iter().filter_map(|index| Some(self.instance(*index)?.object)).collect();
        let found = match self.node.catalogue.located(self.node.node, &objects).await {
            Ok(found) => found,
            Err(error) => {
                self.fail(members.iter().copied(), &RetrieveError::Local(error.to_string())).await;
                return members.to_vec();
            }
        };
        let found: HashMap<ObjectId, Located> = found.into_iter().map(|located| (located.object, located)).collect();
        let mut withdrawn = Vec::new();
        for index in members {
            let now = self.instance(*index).and_then(|instance| found.get(&instance.object));
            match now {
                Some(now) => drop(
                    self.moved
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .insert(*index, now.clone()),
                ),
                None => withdrawn.push(*index),
            }
        }
        self.fail(withdrawn.iter().copied(), &RetrieveError::Withdrawn).await;
        withdrawn
    }

    async fn touch(&self, series: &[SeriesKey]) {
        let node = &self.node;
        if let Err(error) = node.catalogue.touch(node.node, series, node.clock.now()).await {
            tracing::warn!(%error, "the use of some series was not recorded");
        }
    }

    /// Sends series that are on disk, one after the other; returns those of which something turns out not to be.
    async fn send_hot_series(&self, series: Vec<Vec<usize>>) -> Vec<Vec<usize>> {
        let mut missing = Vec::new();
        for mut members in series {
            let survey = self.survey(&members).await;
            if survey.hot.len() == members.len() {
                members = self.send_hot(members, None).await;
            }
            if !members.is_empty() {
                missing.push(members);
            }
        }
        missing
    }

    /// Sends instances that are on disk; returns those that are not any more. `memory` is the file of all of them, if it is in memory still.
    async fn send_hot(&self, members: Vec<usize>, memory: Option<Bytes>) -> Vec<usize> {
        let mut missing = Vec::new();
        let memory = &memory;
        let open = |index| async move { (index, self.open_hot(index, memory.clone()).await) };
        let mut opened = std::pin::pin!(futures::stream::iter(members).map(open).buffered(AHEAD));
        while let Some((index, opened)) = opened.next().await {
            match opened {
                Some(reader) => self.answer(index, Ok(reader), None).await,
                None => missing.push(index),
            }
        }
        missing
    }

    /// Opens the hot file of an instance, and reads the beginning of it unless it is in memory still. None if it is not there.
    async fn open_hot(&self, index: usize, memory: Option<Bytes>) -> Option<DataSetReader> {
        let located = self.instance(index)?;
        match self.node.hot.read_on(located.object, located.length, memory).await {
            Ok(reader) => Some(reader),
            Err(error) => {
                if error.kind() != std::io::ErrorKind::NotFound {
                    tracing::error!(object = %located.object, %error, "a hot file cannot be read");
                }
                None
            }
        }
    }

    async fn answer(&self, index: usize, outcome: Result<DataSetReader, RetrieveError>, arrived: Option<Arc<Arrived>>) {
        // Nobody listens any more: the task is about to be aborted.
        let _ = self
            .answers
            .send(Answer {
                index,
                outcome,
                _room: arrived,
            })
            .await;
    }

    pub(super) async fn fail(&self, members: impl IntoIterator<Item = usize>, error: &RetrieveError) {
        for index in members {
            self.answer(index, Err(error.clone()), None).await;
        }
    }

    async fn survey(&self, members: &[usize]) -> Survey {
        let located = members.iter().filter_map(|index| Some((*index, self.located(*index)?)));
        survey::look(&self.node.hot, located.collect()).await
    }

    async fn bring_all(&self, series: Vec<Vec<usize>>) {
        let mut waiting: VecDeque<Vec<usize>> = series.into();
        let (mut under_way, mut parked) = (FuturesUnordered::new(), FuturesUnordered::new());
        loop {
            while under_way.len() < SERIES
                && let Some(members) = waiting.pop_front()
            {
                under_way.push(self.bring(members));
            }
            tokio::select! {
                Some(series) = under_way.next() => parked.extend(series.map(|series| self.wait(series))),
                Some(members) = parked.next() => waiting.push_back(members),
                else => return,
            }
        }
    }

    /// Brings a series here and sends it. Returns what is left of it if that has to be restored first.
    async fn bring(&self, members: Vec<usize>) -> Option<Parked> {
        let mut left: BTreeSet<usize> = members.into_iter().collect();
        let mut released = self.terms.partial_series;
        for _ in 0..ROUNDS {
            if left.is_empty() {
                return None;
            }
            let mut survey = self.survey(&left.iter().copied().collect::<Vec<_>>()).await;
            for index in &survey.lost {
                left.remove(index);
            }
            self.fail(survey.lost, &RetrieveError::Unreachable).await;
            let mut archived = self.under_way(&mut survey.packs).await;
            let round = Round::board(self, survey.packs);
            let missed = self.round(round, survey.hot, &mut left, &mut released, &mut archived).await?;
            if !archived.is_empty() {
                return self.park(left, archived).await;
            }
            for ended in missed {
                ended.cancelled().await;
            }
        }
        let error = RetrieveError::Local("it could not be brought here".to_owned());
        self.fail(left, &error).await;
        None
    }

    /// Waits until all packs are readable, then sends what comes. None if the series is withheld; otherwise what has to end before another round. What is
    /// archived is added to `archived`, and keeps a series back that has to be complete.
    async fn round(
        &self,
        mut round: Round,
        hot: Vec<usize>,
        left: &mut BTreeSet<usize>,
        released: &mut bool,
        archived: &mut Vec<ArchivedPack>,
    ) -> Option<Vec<CancellationToken>> {
        let mut held = VecDeque::new();
        while !*released && !round.closed.is_empty() {
            match round.events.recv().await {
                Some(Event::Readable(pack)) => {
                    round.closed.remove(&pack);
                }
                Some(Event::Unreadable(pack, RetrieveError::Archived { tier, .. })) => {
                    round.closed.remove(&pack);
                    archived.extend(round.archived(pack, tier));
                }
                Some(Event::Unreadable(_, error)) if withholds(&error) => {
                    self.fail(std::mem::take(left), &error).await;
                    return None;
                }
                // What it holds is looked for again, and the series waits for it.
                Some(Event::Unreadable(pack, RetrieveError::Moved)) => {
                    let members = round.members.get(&pack).cloned().unwrap_or_default();
                    for index in self.relocate(&members).await {
                        left.remove(&index);
                    }
                    return Some(round.ended);
                }
                Some(event) => {
                    if let Event::Unreadable(pack, _) = &event {
                        round.closed.remove(pack);
                    }
                    held.push_back(event);
                }
                None => return Some(round.ended),
            }
        }
        if !*released && !archived.is_empty() {
            return Some(round.ended);
        }
        *released = true;
        let missing = self.send_hot(hot.clone(), None).await;
        for index in hot.iter().filter(|index| !missing.contains(index)) {
            left.remove(index);
        }
        while let Some(event) = match held.pop_front() {
            Some(event) => Some(event),
            None => round.events.recv().await,
        } {
            if let Event::Unreadable(pack, RetrieveError::Archived { tier, .. }) = &event {
                archived.extend(round.archived(*pack, tier));
                continue;
            }
            for index in self.take(&round, event).await {
                left.remove(&index);
            }
        }
        Some(round.ended)
    }

    /// Passes an event on; returns the instances that were answered.
    async fn take(&self, round: &Round, event: Event) -> Vec<usize> {
        let of = |object: &ObjectId| round.indexes.get(object).cloned().unwrap_or_default();
        match event {
            Event::Readable(_) => Vec::new(),
            // Only those that are withdrawn are answered: the others are looked for again.
            Event::Unreadable(pack, RetrieveError::Moved) => self.relocate(&round.members.get(&pack).cloned().unwrap_or_default()).await,
            Event::Failed(object, RetrieveError::Moved) => self.relocate(&of(&object)).await,
            Event::Unreadable(pack, error) => {
                let members = round.members.get(&pack).cloned().unwrap_or_default();
                self.fail(members.clone(), &error).await;
                members
            }
            Event::Failed(object, error) => {
                self.fail(of(&object), &error).await;
                of(&object)
            }
            Event::Landed(object, memory) => {
                let missing = self.send_hot(of(&object), memory).await;
                of(&object).into_iter().filter(|index| !missing.contains(index)).collect()
            }
            // Somebody else, who does not need it hot, was there first: the next flight makes it hot.
            Event::Arrived(..) if self.keep => Vec::new(),
            Event::Arrived(object, arrived) => {
                for index in of(&object) {
                    let length = self.instance(index).map_or(0, |located| located.length);
                    let outcome = read_arrived(&arrived, length, self.node.hot.reading()).await;
                    self.answer(index, outcome, Some(Arc::clone(&arrived))).await;
                }
                of(&object)
            }
        }
    }
}

/// Indexes by series, in the order in which each comes first.
fn by_series(instances: &[Located]) -> Vec<(SeriesKey, Vec<usize>)> {
    let mut places: HashMap<SeriesKey, usize> = HashMap::new();
    let mut series: Vec<(SeriesKey, Vec<usize>)> = Vec::new();
    for (index, located) in instances.iter().enumerate() {
        let place = *places.entry(located.series).or_insert_with(|| {
            series.push((located.series, Vec::new()));
            series.len() - 1
        });
        if let Some((_, members)) = series.get_mut(place) {
            members.push(index);
        }
    }
    series
}

async fn read_arrived(arrived: &Arrived, length: u64, buffers: &Buffers) -> Result<DataSetReader, RetrieveError> {
    let reader = DataSetReader::start(Arc::clone(&arrived.file), length, arrived.memory.clone(), buffers.clone());
    reader.await.map_err(|error| RetrieveError::Local(error.to_string()))
}
