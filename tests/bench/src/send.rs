//! C-STORE of many instances on some associations at once, one thread each: how fast, and how long each instance took.
//!
//! Everything is made before the clock starts; in the measured time a thread writes slices and reads one answer, nothing else.

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::json;

use crate::figures::{Latencies, cpu_seconds};
use crate::image::{Image, Kind, TRANSFER_SYNTAX, image, noise};
use crate::population::{Population, Series};
use crate::wire::{Association, Command, Proposed, Target, uid};

/// C-STORE-RQ
const C_STORE: u16 = 0x0001;

/// What is sent, and how.
#[derive(Debug, clap::Args)]
pub(crate) struct Send {
    #[command(flatten)]
    target: Target,
    /// How big they are
    #[arg(long, value_enum, default_value = "ct")]
    kind: Kind,
    /// How many
    #[arg(long, default_value_t = 1000)]
    images: u64,
    /// Instances of one series, which is one study; 0: the first instance of each study of the population
    #[arg(long, default_value_t = 300)]
    series: u64,
    /// Of the population from which patients and dates are: its studies
    #[arg(long, default_value_t = 20_000)]
    studies: u64,
    /// Associations at once
    #[arg(long, default_value_t = 1)]
    associations: usize,
    /// Other studies for every number
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Sends no further instance after so many seconds
    #[arg(long)]
    seconds: Option<f64>,
}

/// What one association did.
struct Sent {
    began: Instant,
    ended: Instant,
    latencies: Latencies,
    stored: u64,
    bytes: u64,
    failed: u64,
}

/// Sends, and prints one line of JSON.
pub(crate) fn run(arguments: &Send) -> Result<()> {
    let images: Vec<Image> = (0..arguments.images).map(|number| nth(arguments, number)).collect();
    let noise = noise(arguments.seed, arguments.kind);
    let share = images.len().div_ceil(arguments.associations.max(1)).max(1);
    let shares: Vec<&[Image]> = images.chunks(share).collect();
    let barrier = Barrier::new(shares.len());
    let cpu = cpu_seconds();
    let sent = std::thread::scope(|scope| {
        let running: Vec<_> = shares
            .iter()
            .map(|share| scope.spawn(|| associate(arguments, share, &noise, &barrier)))
            .collect();
        let joined = running
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("a sender panicked"))?);
        joined.collect::<Result<Vec<Sent>>>()
    })?;
    let began = sent.iter().map(|sent| sent.began).min().context("nothing was sent")?;
    let ended = sent.iter().map(|sent| sent.ended).max().context("nothing was sent")?;
    let seconds = (ended - began).as_secs_f64();
    let stored: u64 = sent.iter().map(|sent| sent.stored).sum();
    if stored == 0 {
        bail!("nothing was stored");
    }
    let bytes: u64 = sent.iter().map(|sent| sent.bytes).sum();
    let failed: u64 = sent.iter().map(|sent| sent.failed).sum();
    let latencies = Latencies::together(sent.into_iter().map(|sent| sent.latencies));
    println!(
        "{}",
        json!({
            "images": stored, "bytes": bytes, "seconds": seconds, "failed": failed,
            "images_per_second": stored as f64 / seconds, "mb_per_second": bytes as f64 / 1e6 / seconds,
            "p50_ms": latencies.percentile(50.0), "p99_ms": latencies.percentile(99.0), "max_ms": latencies.percentile(100.0),
            "sender_cpu_seconds": cpu_seconds() - cpu,
        })
    );
    Ok(())
}

/// One of the instances, in the order in which they are sent.
fn nth(arguments: &Send, number: u64) -> Image {
    let population = Population::new(arguments.seed, arguments.studies);
    let (study, instance) = match arguments.series {
        0 => (number, 1),
        length => (number / length, number % length + 1),
    };
    let study = population.study(study);
    let series = Series {
        modality: arguments.kind.modality().unwrap_or(study.series[0].modality),
        ..study.series[0].clone()
    };
    image(&study, &series, arguments.kind, population.uid(study.number, 1, instance), instance)
}

fn associate(arguments: &Send, images: &[Image], noise: &[u8], barrier: &Barrier) -> Result<Sent> {
    let classes: BTreeSet<&str> = images.iter().map(|image| image.sop_class).collect();
    let proposed = classes.into_iter().map(|class| Proposed {
        abstract_syntax: class,
        transfer_syntax: TRANSFER_SYNTAX,
        role_scp: false,
    });
    let proposed: Vec<Proposed> = proposed.collect();
    barrier.wait();
    let began = Instant::now();
    let mut sent = Sent {
        began,
        ended: began,
        latencies: Latencies::default(),
        stored: 0,
        bytes: 0,
        failed: 0,
    };
    if let Err(error) = stream(arguments, images, noise, &proposed, &mut sent) {
        // What a server breaks off has failed; what it took before counts.
        eprintln!("an association ended: {error:#}");
        sent.failed = images.len() as u64 - sent.stored;
    }
    sent.ended = Instant::now();
    Ok(sent)
}

/// One association from its request to its release.
fn stream(arguments: &Send, images: &[Image], noise: &[u8], proposed: &[Proposed<'_>], sent: &mut Sent) -> Result<()> {
    let mut association = Association::request(&arguments.target, proposed)?;
    let until = arguments.seconds.map(|seconds| sent.began + Duration::from_secs_f64(seconds));
    for (image, id) in images.iter().zip((1..=u16::MAX).cycle()) {
        if until.is_some_and(|until| Instant::now() > until) {
            break;
        }
        let context = association.context(image.sop_class)?;
        let command = Command::request(C_STORE, image.sop_class, id, true).with(0x1000, uid(&image.sop_instance));
        let pixels = &noise[image.pixels.0..image.pixels.0 + image.pixels.1];
        let since = Instant::now();
        association.send(context, &command, &[&image.head, pixels])?;
        let answer = association.receive(None)?.context("the peer released the association")?;
        sent.latencies.add(since.elapsed());
        match answer.command.number(0x0900) {
            Some(0) => {
                sent.stored += 1;
                sent.bytes += (image.head.len() + pixels.len()) as u64;
            }
            status => {
                if sent.failed == 0 {
                    eprintln!("{} was answered with {status:04X?}", image.sop_instance);
                }
                sent.failed += 1;
            }
        }
    }
    association.release()
}
