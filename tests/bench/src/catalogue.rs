//! A catalogue full of the population's studies, as if they had been received.
//!
//! Each instance goes the way of a received one: its bytes are made, scanned, and given to [`Catalogue::ingest`], only in larger batches than a node
//! makes, several at once where the database takes that. So the rows are those of C-STORE by construction; what is not made are pixels and files.
//! PostgreSQL answers the many small statements of a new study too slowly for ten million instances: there, fill SQLite and let
//! `filmroom catalogue copy` bring it over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use filmroom_index::catalogue::{Arrival, Catalogue, Origin, Outcome};
use filmroom_index::header::scan;
use filmroom_index::model::{AeTitle, Digest, DuplicatePolicy, NodeId, ObjectId, Timestamp, Uid};
use filmroom_index::part10::FileMeta;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::chance::Chance;
use crate::figures::cpu_seconds;
use crate::image::{Kind, TRANSFER_SYNTAX, image, sop_class};
use crate::population::{Population, Series, Study};

/// What is made, and where.
#[derive(Debug, clap::Args)]
pub(crate) struct Fill {
    /// URL of the catalogue, as in the node's configuration
    #[arg(long)]
    url: String,
    /// How many studies; ten times as many instances
    #[arg(long)]
    studies: u64,
    /// The first one: to go on with what was begun
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Others for every number
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The node that has the files: the content of `node-id` in its data directory
    #[arg(long)]
    node: Uuid,
    /// Studies in one transaction
    #[arg(long, default_value_t = 400)]
    batch: u64,
    /// Transactions at once; SQLite has one writer
    #[arg(long, default_value_t = 1)]
    writers: usize,
}

/// Batches that are made and not yet written.
const AHEAD: usize = 4;

/// Fills, and prints one line of JSON.
#[tokio::main]
pub(crate) async fn run(arguments: &Fill) -> Result<()> {
    let since = Instant::now();
    let cpu = cpu_seconds();
    let catalogue = Catalogue::open(&arguments.url).await?;
    let node = NodeId(arguments.node);
    let population = Population::new(arguments.seed, arguments.studies);
    let (batches, waiting) = mpsc::channel(AHEAD);
    let waiting = Arc::new(tokio::sync::Mutex::new(waiting));
    let instances = Arc::new(AtomicU64::new(0));
    let (from, batch) = (arguments.from, arguments.batch.max(1));
    let maker = tokio::task::spawn_blocking(move || {
        let mut first = from;
        while first < population.studies {
            let end = (first + batch).min(population.studies);
            let arrivals = (first..end)
                .map(|number| arrivals(&population, number))
                .collect::<Result<Vec<_>>>()?;
            if batches.blocking_send(arrivals.concat()).is_err() {
                break;
            }
            first = end;
        }
        anyhow::Ok(())
    });
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..arguments.writers.max(1) {
        let (catalogue, waiting, instances) = (catalogue.clone(), waiting.clone(), instances.clone());
        writers.spawn(async move {
            loop {
                let next = waiting.lock().await.recv().await;
                let Some(batch) = next else { return Ok(()) };
                for outcome in catalogue.ingest(node, &batch).await {
                    if outcome? != Outcome::Served {
                        bail!("an instance was not served: is the catalogue empty?");
                    }
                }
                instances.fetch_add(batch.len() as u64, Ordering::Relaxed);
            }
        });
    }
    while let Some(written) = writers.join_next().await {
        written.map_err(|_| anyhow!("a writer panicked"))??;
    }
    maker.await.context("the maker panicked")??;
    catalogue.close().await;
    let (instances, seconds) = (instances.load(Ordering::Relaxed), since.elapsed().as_secs_f64());
    println!(
        "{}",
        json!({
            "studies": population.studies - arguments.from, "instances": instances, "seconds": seconds,
            "instances_per_second": instances as f64 / seconds, "cpu_seconds": cpu_seconds() - cpu,
        })
    );
    Ok(())
}

/// All instances of a study.
fn arrivals(population: &Population, number: u64) -> Result<Vec<Arrival>> {
    let study = population.study(number);
    let mut arrivals = Vec::new();
    for series in &study.series {
        for instance in 1..=series.instances {
            arrivals.push(arrival(population, &study, series, instance)?);
        }
    }
    Ok(arrivals)
}

fn arrival(population: &Population, study: &Study, series: &Series, instance: u64) -> Result<Arrival> {
    let uid = population.uid(study.number, series.number, instance);
    let image = image(study, series, Kind::Header, uid, instance);
    let syntax = Uid::parse(TRANSFER_SYNTAX)?;
    let meta = FileMeta {
        sop_class: Uid::parse(sop_class(series.modality))?,
        sop_instance: Uid::parse(&image.sop_instance)?,
        transfer_syntax: syntax.clone(),
        source: Some(AeTitle::parse("BENCH")?),
    };
    let preface = meta.encode();
    let mut crc32 = crc32fast::Hasher::new();
    crc32.update(&preface);
    crc32.update(&image.head);
    let received_at = Timestamp(study.at + i64::try_from(series.number * 10_000_000 + instance * 100_000).unwrap_or(0));
    Ok(Arrival {
        object: object_id(received_at, &image.sop_instance),
        received_at,
        source: AeTitle::parse("BENCH")?,
        sop_class: meta.sop_class,
        sop_instance: meta.sop_instance,
        study: Uid::parse(&study.uid)?,
        series: Uid::parse(&series.uid)?,
        transfer_syntax: syntax.clone(),
        sha256: Some(Digest(Sha256::digest(&image.head).into())),
        crc32: Some(crc32.finalize()),
        length: (preface.len() + image.head.len()) as u64,
        header: scan(&image.head, &syntax)?,
        default_issuer: None,
        duplicates: DuplicatePolicy::Correct,
        confirmed_copy: None,
        origin: Origin {
            address: "127.0.0.1".to_owned(),
            user: String::new(),
        },
    })
}

/// The UUIDv7 of a moment, the same every time.
fn object_id(at: Timestamp, sop_instance: &str) -> ObjectId {
    let millis = u64::try_from(at.0 / 1000).unwrap_or(0);
    let mut random = [0; 10];
    random.copy_from_slice(&Chance::of(millis).about(sop_instance, 0).bytes(10));
    ObjectId(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use dicom_core::VR;
    use dicom_dictionary_std::tags;
    use filmroom_index::catalogue::{AnswerContext, ArchiveCutoffs};
    use filmroom_index::dataset::DataSet;
    use filmroom_index::model::Availability;
    use filmroom_index::query::{Query, Root};

    use super::*;

    const STUDIES: u64 = 40;

    fn fill(directory: &tempfile::TempDir, name: &str, batch: u64) -> Fill {
        Fill {
            url: format!("sqlite:{}", directory.path().join(name).display()),
            studies: STUDIES,
            from: 0,
            seed: 3,
            node: Uuid::from_u128(7),
            batch,
            writers: 1,
        }
    }

    /// All studies and all that a list shows of them, in the order of their keys.
    #[tokio::main]
    async fn answers(arguments: &Fill) -> Vec<DataSet> {
        let catalogue = Catalogue::open(&arguments.url).await.unwrap();
        let mut identifier = DataSet::new();
        identifier.put_text(tags::QUERY_RETRIEVE_LEVEL, VR::CS, "STUDY");
        for (tag, vr) in [
            (tags::STUDY_INSTANCE_UID, VR::UI),
            (tags::PATIENT_ID, VR::LO),
            (tags::PATIENT_NAME, VR::PN),
            (tags::STUDY_DATE, VR::DA),
            (tags::ACCESSION_NUMBER, VR::SH),
            (tags::NUMBER_OF_STUDY_RELATED_INSTANCES, VR::IS),
        ] {
            identifier.put_text(tag, vr, "");
        }
        let query = Query::find(Root::Study, &identifier).unwrap();
        let keys = catalogue.find(&query, 1000, Duration::from_secs(20)).await.unwrap();
        let context = AnswerContext {
            node: NodeId(arguments.node),
            retrieve_ae: AeTitle::parse("FILMROOM").unwrap(),
            cold_down: false,
            deep_archive: Availability::Nearline,
            cutoffs: ArchiveCutoffs::default(),
        };
        let mut answers = catalogue.answers(&query, &keys, &context).await.unwrap();
        answers.sort_by_key(|answer| answer.text(tags::STUDY_INSTANCE_UID).unwrap_or_default().to_owned());
        catalogue.close().await;
        answers
    }

    #[test]
    fn a_catalogue_answers_with_the_population() {
        let directory = tempfile::tempdir().unwrap();
        let arguments = fill(&directory, "a.db", 7);
        run(&arguments).unwrap();
        let answers = answers(&arguments);
        assert_eq!(answers.len() as u64, STUDIES);
        let population = Population::new(arguments.seed, STUDIES);
        for (answer, number) in answers.iter().zip(0..) {
            let study = population.study(number);
            let instances: u64 = study.series.iter().map(|series| series.instances).sum();
            assert_eq!(answer.text(tags::STUDY_INSTANCE_UID), Some(study.uid.as_str()));
            assert_eq!(answer.text(tags::PATIENT_ID), Some(study.patient_id.as_str()));
            assert_eq!(answer.text(tags::PATIENT_NAME), Some(study.name.as_str()));
            assert_eq!(answer.text(tags::STUDY_DATE), Some(study.date.as_str()));
            assert_eq!(answer.text(tags::ACCESSION_NUMBER).unwrap_or_default(), study.accession);
            assert_eq!(
                answer.text(tags::NUMBER_OF_STUDY_RELATED_INSTANCES),
                Some(instances.to_string().as_str())
            );
        }
    }

    #[test]
    fn batches_make_no_difference() {
        let directory = tempfile::tempdir().unwrap();
        let (small, large) = (fill(&directory, "a.db", 1), fill(&directory, "b.db", 1000));
        run(&small).unwrap();
        run(&large).unwrap();
        assert_eq!(answers(&small), answers(&large));
    }
}
