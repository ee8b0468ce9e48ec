//! Kinds: what nearly all objects share, SOP Class, Transfer Syntax and source, on record once. A row of an object names its kind by a number.
//!
//! # Mechanics
//! Whoever makes rows of objects asks for the kinds of their arrivals first. What is not known here is looked up or made in a transaction of its own, and known
//! from then on: there are few, so that nearly always nothing is asked.
//!
//! # Invariants
//! - A number is known here only after its row is committed, and rows of `kinds` are neither changed nor removed.
//! - Where a number is known of a server that has lost its row, the insert refuses it ([`Catalogue::may_try_again`]), and every kind is asked for again.
//! - Kinds are made in one order, so that nodes that make the same wait for each other and never in a circle.
//!
//! # Crash story
//! A kind may stay without an object. The next one of that kind uses it.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::database::{Connection, execute, fetch_optional};
use super::{Arrival, Catalogue, Error, Result};
use crate::model::{AeTitle, Uid};

/// So many are known at most; then it begins anew.
const KNOWN: usize = 1024;

/// Row ids of kinds that are committed.
#[derive(Clone, Default, Debug)]
pub(super) struct KnownKinds(Arc<Mutex<HashMap<Kind, i64>>>);

/// A row of `kinds`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
struct Kind {
    sop_class: Uid,
    transfer_syntax: Uid,
    source: AeTitle,
}

/// What tells the kind of an arrival.
type Traits<'a> = (&'a Uid, &'a Uid, &'a AeTitle);

/// The kinds of some arrivals, by row id.
pub(super) struct Kinds<'a>(HashMap<Traits<'a>, i64>);

impl KnownKinds {
    fn lock(&self) -> MutexGuard<'_, HashMap<Kind, i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Knows nothing any more.
    pub(super) fn forget(&self) {
        self.lock().clear();
    }

    fn keep(&self, made: Vec<(Kind, i64)>) {
        let mut known = self.lock();
        if known.len() + made.len() > KNOWN {
            known.clear();
        }
        known.extend(made.into_iter().take(KNOWN));
    }
}

impl Catalogue {
    fn known_kinds(&self) -> &KnownKinds {
        match self {
            Catalogue::Sqlite(sqlite) => &sqlite.kinds,
            Catalogue::Postgres(postgres) => &postgres.kinds,
        }
    }

    /// Whether rows that were refused may be taken when all is looked at again: another transaction was in their way, or a kind was not there that was known here.
    pub(super) fn may_try_again(&self, error: &Error) -> bool {
        if error.is_lost_reference() {
            self.known_kinds().forget();
            return true;
        }
        error.is_collision()
    }

    /// The kinds of some arrivals. To be asked before the transaction that makes their rows begins: on SQLite nobody else writes meanwhile.
    pub(super) async fn kinds<'a>(&self, arrivals: impl IntoIterator<Item = &'a Arrival>) -> Result<Kinds<'a>> {
        let known = self.known_kinds();
        let wanted: BTreeSet<Traits<'a>> = arrivals.into_iter().map(traits).collect();
        let mut kinds = HashMap::with_capacity(wanted.len());
        let mut unknown = Vec::new();
        {
            let known = known.lock();
            for traits in wanted {
                let kind = Kind::of(traits);
                match known.get(&kind) {
                    Some(id) => drop(kinds.insert(traits, *id)),
                    None => unknown.push((traits, kind)),
                }
            }
        }
        if !unknown.is_empty() {
            let mut made = Vec::with_capacity(unknown.len());
            let mut connection = self.write().await?;
            for (traits, kind) in unknown {
                let id = find_or_make(&mut connection, &kind).await?;
                kinds.insert(traits, id);
                made.push((kind, id));
            }
            connection.commit().await?;
            known.keep(made);
        }
        Ok(Kinds(kinds))
    }
}

impl Kinds<'_> {
    /// The row of the kind of one of the arrivals.
    pub(super) fn of(&self, arrival: &Arrival) -> Result<i64> {
        let id = self.0.get(&traits(arrival)).copied();
        id.ok_or_else(|| Error::Corrupt("an object's kind has no row".to_owned()))
    }
}

impl Kind {
    fn of((sop_class, transfer_syntax, source): Traits<'_>) -> Kind {
        Kind {
            sop_class: sop_class.clone(),
            transfer_syntax: transfer_syntax.clone(),
            source: source.clone(),
        }
    }
}

fn traits(arrival: &Arrival) -> Traits<'_> {
    (&arrival.sop_class, &arrival.transfer_syntax, &arrival.source)
}

/// Makes a row only where there is none: PostgreSQL uses up a number for each that it does not insert.
async fn find_or_make(connection: &mut Connection, kind: &Kind) -> Result<i64> {
    if let Some(id) = find(connection, kind).await? {
        return Ok(id);
    }
    let sql = "INSERT INTO kinds (sop_class_uid, transfer_syntax, source) VALUES ($1, $2, $3)
               ON CONFLICT (sop_class_uid, transfer_syntax, source) DO NOTHING";
    execute!(
        connection,
        sql,
        kind.sop_class.as_str(),
        kind.transfer_syntax.as_str(),
        kind.source.as_str()
    )?;
    // Another node may have made it meanwhile, and has committed it by now.
    let id = find(connection, kind).await?;
    id.ok_or_else(|| Error::Corrupt("a kind has no row".to_owned()))
}

async fn find(connection: &mut Connection, kind: &Kind) -> Result<Option<i64>> {
    let sql = "SELECT CAST(id AS BIGINT) FROM kinds WHERE sop_class_uid = $1 AND transfer_syntax = $2 AND source = $3";
    let row: Option<(i64,)> = fetch_optional!(
        connection,
        sql,
        kind.sop_class.as_str(),
        kind.transfer_syntax.as_str(),
        kind.source.as_str()
    )?;
    Ok(row.map(|(id,)| id))
}
