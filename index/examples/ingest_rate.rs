//! How many objects a second the catalogue takes: `ingest_rate URL [OBJECTS [BATCH]]`, on a database that is made for it.
//!
//! The objects are slices of a real CT file, 200 a series, three series a study, one study a patient; one caller, as the
//! committer of a node is.

use std::time::Instant;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use filmroom_index::catalogue::{Arrival, Catalogue, Origin, Outcome};
use filmroom_index::clock::Clock;
use filmroom_index::header::{Header, scan};
use filmroom_index::model::{AeTitle, Digest, DuplicatePolicy, NodeId, ObjectId, Uid};
use filmroom_index::part10;

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("usage: ingest_rate URL [OBJECTS [BATCH]]")?;
    let objects: u32 = arguments.next().map_or(Ok(20_000), |text| text.parse())?;
    let batch: u32 = arguments.next().map_or(Ok(64), |text| text.parse())?;
    let template = template()?;
    let catalogue = Catalogue::open(&url).await?;
    let node = NodeId(ObjectId::new(Clock::System.now()).0);
    // Other studies than those of the run before.
    let run = Clock::System.now().0;

    let mut pauses = Vec::new();
    let began = Instant::now();
    let mut building = std::time::Duration::ZERO;
    for first in (0..objects).step_by(usize::try_from(batch)?) {
        let built = Instant::now();
        let arrivals = (first..objects.min(first + batch))
            .map(|number| slice(&template, run, number))
            .collect::<Result<Vec<Arrival>, Failure>>()?;
        building += built.elapsed();
        let stored = Instant::now();
        for result in catalogue.ingest(node, &arrivals).await {
            if result? != Outcome::Served {
                return Err("an object was not served".into());
            }
        }
        pauses.push(stored.elapsed());
    }
    let took = began.elapsed() - building;
    pauses.sort_unstable();
    let middle = pauses.get(pauses.len() / 2).copied().unwrap_or_default();
    let longest = pauses.last().copied().unwrap_or_default();
    println!(
        "{objects} objects in batches of {batch}: {:.0} objects/s, {:.0} transactions/s; a transaction takes {middle:.1?}, at most {longest:.1?}",
        f64::from(objects) / took.as_secs_f64(),
        f64::from(objects) / f64::from(batch) / took.as_secs_f64(),
    );
    catalogue.close().await;
    Ok(())
}

/// The header of a real CT slice.
fn template() -> Result<Header, Failure> {
    let file = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/ct/CT_small.dcm"))?;
    let preface = part10::read_preface(&file)?;
    let data_set = file.get(usize::try_from(preface.data_set_offset)?..).ok_or("no data set")?;
    Ok(scan(data_set, &preface.transfer_syntax)?)
}

fn slice(template: &Header, run: i64, number: u32) -> Result<Arrival, Failure> {
    let study = format!("1.2.826.0.1.3680043.8.498.{run}.{}", number / 600);
    let series = format!("{study}.{}", number / 200);
    let instance = format!("{series}.{number}");
    let mut header = template.clone();
    for (tag, vr, text) in [
        (tags::PATIENT_ID, VR::LO, &format!("P{run}-{}", number / 600)),
        (tags::STUDY_INSTANCE_UID, VR::UI, &study),
        (tags::SERIES_INSTANCE_UID, VR::UI, &series),
        (tags::SOP_INSTANCE_UID, VR::UI, &instance),
        (tags::INSTANCE_NUMBER, VR::IS, &(number % 200).to_string()),
        (tags::SLICE_LOCATION, VR::DS, &format!("{}.25", number % 200)),
        (tags::CONTENT_TIME, VR::TM, &format!("1015{:02}.{:06}", number % 60, number)),
    ] {
        header.attributes.put_text(tag, vr, text.as_str());
    }
    let now = Clock::System.now();
    let mut sha256 = [0; 32];
    for (place, byte) in sha256.iter_mut().zip(instance.bytes().rev()) {
        *place = byte;
    }
    Ok(Arrival {
        object: ObjectId::new(now),
        received_at: now,
        source: AeTitle::parse("CT1")?,
        sop_class: Uid::parse("1.2.840.10008.5.1.4.1.1.2")?,
        sop_instance: Uid::parse(&instance)?,
        study: Uid::parse(&study)?,
        series: Uid::parse(&series)?,
        transfer_syntax: Uid::parse("1.2.840.10008.1.2.1")?,
        sha256: Some(Digest(sha256)),
        crc32: Some(number),
        length: 527_000,
        header,
        default_issuer: None,
        duplicates: DuplicatePolicy::Correct,
        confirmed_copy: None,
        origin: Origin::default(),
    })
}
