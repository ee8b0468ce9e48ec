//! C-MOVE and C-GET of one study: how long until the first image is there, and how fast all of them are.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use dicom_core::VR;
use dicom_dictionary_std::tags;
use filmroom_index::dataset::DataSet;
use filmroom_index::model::Encoding;
use serde_json::json;

use crate::image::{TRANSFER_SYNTAX, sop_class};
use crate::population::Population;
use crate::receiver::Receiver;
use crate::wire::{Association, Command, IMPLICIT, Proposed, Target};

/// Study Root Query/Retrieve Information Model, MOVE and GET
const MOVE: &str = "1.2.840.10008.5.1.4.1.2.2.2";
const GET: &str = "1.2.840.10008.5.1.4.1.2.2.3";
/// C-MOVE-RQ, C-GET-RQ, C-STORE-RQ
const C_MOVE: u16 = 0x0021;
const C_GET: u16 = 0x0010;
const C_STORE: u16 = 0x0001;

/// A study that `send` has sent.
#[derive(Debug, clap::Args)]
pub(crate) struct Wanted {
    #[command(flatten)]
    target: Target,
    /// The seed with which it was sent
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Which study of that seed
    #[arg(long, default_value_t = 0)]
    study: u64,
    /// Its modality
    #[arg(long, default_value = "CT")]
    modality: String,
}

/// What is moved, and where to.
#[derive(Debug, clap::Args)]
pub(crate) struct Move {
    #[command(flatten)]
    wanted: Wanted,
    /// AE title that the server knows at the port
    #[arg(long, default_value = "SINK")]
    destination: String,
    /// Port on which we receive
    #[arg(long)]
    receive: u16,
}

/// What is got.
#[derive(Debug, clap::Args)]
pub(crate) struct Get {
    #[command(flatten)]
    wanted: Wanted,
}

/// Moves, and prints one line of JSON.
pub(crate) fn run_move(arguments: &Move) -> Result<()> {
    let proposed = [Proposed {
        abstract_syntax: MOVE,
        transfer_syntax: IMPLICIT,
        role_scp: false,
    }];
    let mut association = Association::request(&arguments.wanted.target, &proposed)?;
    let context = association.context(MOVE)?;
    let mut destination = arguments.destination.clone().into_bytes();
    if destination.len() % 2 == 1 {
        destination.push(b' ');
    }
    let request = Command::request(C_MOVE, MOVE, 1, true).with(0x0600, destination);
    let since = Instant::now();
    let receiver = Receiver::listen(arguments.receive, since)?;
    association.send(context, &request, &[&identifier(&arguments.wanted)])?;
    let status = loop {
        let message = association.receive(None)?.context("released in the middle")?;
        match message.command.number(0x0900) {
            Some(0xff00) => {}
            status => break status,
        }
    };
    let seconds = since.elapsed().as_secs_f64();
    association.release()?;
    let (images, bytes) = receiver.received();
    report(status, images, bytes, seconds, receiver.first_ms())
}

/// Gets, and prints one line of JSON.
pub(crate) fn run_get(arguments: &Get) -> Result<()> {
    let proposed = [
        Proposed {
            abstract_syntax: GET,
            transfer_syntax: IMPLICIT,
            role_scp: false,
        },
        Proposed {
            abstract_syntax: sop_class(&arguments.wanted.modality),
            transfer_syntax: TRANSFER_SYNTAX,
            role_scp: true,
        },
    ];
    let mut association = Association::request(&arguments.wanted.target, &proposed)?;
    let context = association.context(GET)?;
    let since = Instant::now();
    association.send(context, &Command::request(C_GET, GET, 1, true), &[&identifier(&arguments.wanted)])?;
    let (mut images, mut bytes, mut first) = (0, 0, None);
    let status = loop {
        let message = association.receive(None)?.context("released in the middle")?;
        match (message.command.number(0x0100), message.command.number(0x0900)) {
            (Some(C_STORE), _) => {
                association.stored(&message)?;
                first.get_or_insert_with(|| since.elapsed());
                images += 1;
                bytes += message.length;
            }
            (_, Some(0xff00)) => {}
            (_, status) => break status,
        }
    };
    let seconds = since.elapsed().as_secs_f64();
    association.release()?;
    report(status, images, bytes, seconds, first.unwrap_or_default().as_secs_f64() * 1e3)
}

fn identifier(wanted: &Wanted) -> Vec<u8> {
    let mut identifier = DataSet::new();
    identifier.put_text(tags::QUERY_RETRIEVE_LEVEL, VR::CS, "STUDY");
    let uid = Population::new(wanted.seed, 1).uid(wanted.study, 0, 0);
    identifier.put_text(tags::STUDY_INSTANCE_UID, VR::UI, uid);
    identifier.encode(Encoding::ImplicitLittle)
}

fn report(status: Option<u16>, images: u64, bytes: u64, seconds: f64, first_ms: f64) -> Result<()> {
    if status != Some(0) {
        bail!("final status {status:04X?} after {images} images");
    }
    println!(
        "{}",
        json!({
            "images": images, "bytes": bytes, "seconds": seconds, "first_ms": first_ms,
            "images_per_second": images as f64 / seconds, "mb_per_second": bytes as f64 / 1e6 / seconds,
        })
    );
    Ok(())
}
