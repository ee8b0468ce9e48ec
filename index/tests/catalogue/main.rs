//! What the catalogue promises, shown on both databases.
//!
//! Every promise runs on SQLite, and on PostgreSQL where FILMROOM_TEST_POSTGRES holds the URL of a server on which databases
//! may be made. Without it those are listed as ignored; with FILMROOM_REQUIRE_POSTGRES=1 they fail instead.

// A panic is how a promise fails.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod database;
mod generated;
mod matching;
mod objects;
mod opening;
mod store;

use std::future::Future;
use std::pin::Pin;

use database::{Database, Kind};
use libtest_mimic::{Arguments, Failed, Trial};

type Promise = fn(Database) -> Pin<Box<dyn Future<Output = ()>>>;

macro_rules! promises {
    ($($module:ident: $($name:ident),+ $(,)?;)+) => {
        vec![$($((
            concat!(stringify!($module), "::", stringify!($name)),
            (|database| Box::pin($module::$name(database))) as Promise,
        )),+),+]
    };
}

fn main() {
    let promises = promises! {
        opening:
            a_catalogue_is_made_where_there_is_none_and_opened_again,
            a_newer_schema_is_refused,
            processes_that_start_together_make_one_schema;
        matching:
            sql_finds_what_the_reference_matcher_finds,
            hostile_keys_find_what_they_say_and_harm_nothing;
        store:
            the_first_of_its_uid_is_served;
    };
    let server = std::env::var("FILMROOM_TEST_POSTGRES").ok();
    let required = std::env::var("FILMROOM_REQUIRE_POSTGRES").is_ok_and(|value| value == "1");
    let mut trials = Vec::new();
    for (name, promise) in promises {
        trials.push(Trial::test(format!("sqlite::{name}"), move || run(Kind::Sqlite, promise)));
        let kind = server.clone().map(Kind::Postgres);
        let ignored = kind.is_none() && !required;
        let trial = Trial::test(format!("postgres::{name}"), move || match kind {
            Some(kind) => run(kind, promise),
            None => Err(Failed::from("FILMROOM_TEST_POSTGRES is not set")),
        });
        trials.push(trial.with_ignored_flag(ignored));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn run(kind: Kind, promise: Promise) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let database = Database::make(kind).await;
        let dropping = database.guard();
        let local = tokio::task::LocalSet::new();
        let outcome = local.run_until(async { tokio::task::spawn_local(promise(database)).await }).await;
        dropping.drop_database().await;
        outcome.map_err(|error| match error.try_into_panic() {
            Ok(panic) => Failed::from(said(&*panic)),
            Err(error) => Failed::from(error.to_string()),
        })
    })
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic")
        .to_owned()
}
