//! What was read of foreign objects becomes rows, and records in the cold store that tell of these.

use std::collections::BTreeMap;

use filmroom_index::catalogue::{self, Adopted, AdoptedObject, Arrival, ForeignObject, Origin, Outcome};
use filmroom_index::model::{ObjectId, Timestamp, Uid};
use futures::{StreamExt, stream};

use super::report::Became;
use super::{BATCH, OWED, RECORDS, Walk, head, record};
use crate::Archive;
use crate::archive::Inner;
use crate::cold::{ColdStore, Listed};
use crate::error::ArchiveError;

impl Walk<'_> {
    /// What the catalogue gets of an object.
    pub(super) fn arrival(&self, listed: Listed, head: head::Head) -> Adopted {
        let sender = self.node.settings.senders.of(head.source.as_ref());
        let now = self.node.clock.now();
        let put_at = if listed.put_at == Timestamp(0) { now } else { listed.put_at };
        Adopted {
            data_set_length: listed.length.saturating_sub(head.offset),
            place: ForeignObject {
                key: listed.key,
                etag: listed.etag,
                read_at: now,
            },
            arrival: Arrival {
                object: ObjectId::new(put_at),
                received_at: put_at,
                source: sender.source,
                sop_class: head.meta.sop_class,
                sop_instance: head.meta.sop_instance,
                study: head.study,
                series: head.series,
                transfer_syntax: head.meta.transfer_syntax,
                sha256: head.digests.map(|(sha256, _)| sha256),
                crc32: head.digests.map(|(_, crc32)| crc32),
                length: listed.length,
                header: head.header,
                default_issuer: sender.default_issuer,
                duplicates: sender.duplicates,
                confirmed_copy: None,
                origin: Origin {
                    address: String::new(),
                    user: self.actor.to_owned(),
                },
            },
        }
    }

    /// Puts objects on record, and the records of these beside the manifests.
    pub(super) async fn commit(&mut self, batch: Vec<Adopted>) -> Result<(), ArchiveError> {
        if batch.is_empty() {
            return Ok(());
        }
        let together = self.put_on_record(&batch).await;
        if let Err(catalogue::Error::Refused(error)) = &together {
            // One that cannot be put on record must not stand in the way of the others.
            tracing::warn!(
                objects = batch.len(),
                %error,
                "the catalogue refuses a batch: trying its objects one by one"
            );
            for adopted in batch.chunks(1) {
                match self.put_on_record(adopted).await {
                    Err(catalogue::Error::Refused(error)) => {
                        self.tally.refused += 1;
                        let key = adopted.first().map(|adopted| adopted.place.key.clone()).unwrap_or_default();
                        self.say(&key, Became::Refused, format!("the catalogue refuses it: {error}"));
                    }
                    done => done?,
                }
            }
        } else {
            together?;
        }
        fail::fail_point!("adopt::after_commit");
        settle_owed(self.node, self.cold).await
    }

    async fn put_on_record(&mut self, batch: &[Adopted]) -> catalogue::Result<()> {
        let outcomes = self.node.catalogue.adopt_objects(self.node.node, batch, self.actor).await?;
        for (adopted, outcome) in batch.iter().zip(outcomes) {
            self.became(adopted, outcome);
        }
        Ok(())
    }

    fn became(&mut self, adopted: &Adopted, outcome: Option<Outcome>) {
        let (key, instance) = (&adopted.place.key, &adopted.arrival.sop_instance);
        match outcome {
            None => self.tally.known += 1,
            Some(Outcome::Served | Outcome::Corrected { .. }) => {
                self.tally.adopted += 1;
                self.tally.adopted_bytes += adopted.arrival.length;
            }
            Some(Outcome::Redundant { kept }) => {
                self.tally.equal += 1;
                let why = format!("{instance} is held already, as long as this, as {kept}: left alone");
                self.say(key, Became::Equal, why);
            }
            Some(Outcome::Quarantined { reason } | Outcome::Withdrawn { reason }) => {
                self.tally.withheld += 1;
                self.say(key, Became::Withheld, format!("{instance}: {reason}"));
            }
            Some(Outcome::Deleted { reason } | Outcome::Rejected { reason }) => {
                self.tally.refused += 1;
                self.say(key, Became::Refused, format!("{instance}: {reason}"));
            }
        }
    }
}

impl Archive {
    /// Writes the record again that tells of an adopted object, or would.
    pub(crate) async fn record_again(&self, key: &str) -> Result<(), ArchiveError> {
        let (node, cold) = (&self.inner, self.cold()?);
        let objects = match node.catalogue.record_of_foreign(key).await? {
            Some(record) => node.catalogue.foreign_of_record(&record).await?,
            None => Vec::new(),
        };
        if let Some(first) = objects.first() {
            let study = first.study.clone();
            return record::write(node, cold, &study, &objects).await;
        }
        settle_owed(node, cold).await
    }
}

/// Writes the records of adopted objects of which none tells yet: those of the last batch, or of one that a kill cut short.
pub(super) async fn settle_owed(node: &std::sync::Arc<Inner>, cold: &ColdStore) -> Result<(), ArchiveError> {
    loop {
        let owed = node.catalogue.unrecorded_foreign(OWED).await?;
        if owed.is_empty() {
            return Ok(());
        }
        let mut studies: BTreeMap<Uid, Vec<AdoptedObject>> = BTreeMap::new();
        for object in owed {
            studies.entry(object.study.clone()).or_default().push(object);
        }
        let records: Vec<(Uid, Vec<AdoptedObject>)> = studies
            .into_iter()
            .flat_map(|(study, objects)| {
                let chunks: Vec<_> = objects.chunks(BATCH).map(|chunk| (study.clone(), chunk.to_vec())).collect();
                chunks
            })
            .collect();
        let mut written = stream::iter(records)
            .map(|(study, objects)| async move { record::write(node, cold, &study, &objects).await })
            .buffer_unordered(RECORDS);
        while let Some(written) = written.next().await {
            written?;
        }
    }
}
