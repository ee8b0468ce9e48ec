//! `filmroom-bench`: the parts of `tests/bench/run` that have to be fast. Each subcommand does one thing once and prints one line of JSON.
//!
//! # Layout
//! - `population`: the studies; `chance` and `names` behind it; `image`: their instances; `catalogue`: a catalogue full of them.
//! - `send`, `find`, `retrieve`: what is asked of a server, over `wire`; `receiver`: the destination of a C-MOVE.
//! - `limit`, `least`, `s3`: the same bytes with nothing but the disk, the network and the disk, or the S3 client, behind them; `recall`: with the disk and a destination behind that.
//! - `figures`: percentiles and processor time.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a benchmark that meets what it does not expect fails, as a test does"
)]

use anyhow::Result;
use clap::Parser;

mod catalogue;
mod chance;
mod figures;
mod find;
mod image;
mod least;
mod limit;
mod names;
mod population;
mod recall;
mod receiver;
mod retrieve;
mod s3;
mod send;
mod wire;

/// The parts of filmroom's benchmark that have to be fast.
#[derive(Debug, Parser)]
#[command(version)]
enum Arguments {
    /// Sends instances with C-STORE.
    Send(send::Send),
    /// Writes the files that a store has to write, and nothing else.
    Limit(limit::Limit),
    /// Takes and keeps what is sent, with the least that has to be done for it.
    Least(least::Least),
    /// Asks C-FINDs on one open association.
    Find(find::Find),
    /// Has a study sent with C-MOVE, to a receiver of its own.
    Move(retrieve::Move),
    /// Gets a study with C-GET.
    Get(retrieve::Get),
    /// Puts objects with aws-sdk-s3 and nothing else.
    Put(s3::Put),
    /// Gets all objects below a prefix with aws-sdk-s3 and nothing else.
    Fetch(s3::Fetch),
    /// Fills a catalogue with the population's studies.
    Catalogue(catalogue::Fill),
}

fn main() -> Result<()> {
    match Arguments::parse() {
        Arguments::Send(arguments) => send::run(&arguments),
        Arguments::Limit(arguments) => limit::run(&arguments),
        Arguments::Least(arguments) => least::run(&arguments),
        Arguments::Find(arguments) => find::run(&arguments),
        Arguments::Move(arguments) => retrieve::run_move(&arguments),
        Arguments::Get(arguments) => retrieve::run_get(&arguments),
        Arguments::Put(arguments) => s3::run_put(&arguments),
        Arguments::Fetch(arguments) => s3::run_fetch(&arguments),
        Arguments::Catalogue(arguments) => catalogue::run(&arguments),
    }
}
