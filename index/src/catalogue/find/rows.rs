//! From a query to the rows that it is about: which tables, how they are joined, what has to hold.

use dicom_core::Tag;
use dicom_dictionary_std::tags;

use super::columns::{column, condition};
use super::statement::Statement;
use crate::model::Level;
use crate::query::attributes::level;
use crate::query::{MatchKey, Matcher, NamePattern, Query};

/// The keys of a query, sorted by who can decide them.
pub(super) struct Conditions<'a> {
    /// Keys that the database decides, with the level of their table.
    columns: Vec<(Level, &'a MatchKey)>,
    /// Keys on attributes that only stand in the stored headers.
    pub(super) headers: Vec<&'a MatchKey>,
    /// The level whose headers decide them: the query's, or a narrower one.
    pub(super) deepest: Level,
    level: Level,
    /// Keys of the patient are met by whoever was merged, not by the columns of the one who is left.
    pub(super) merged: bool,
}

impl<'a> Conditions<'a> {
    pub(super) fn of(query: &'a Query) -> Conditions<'a> {
        let mut conditions = Conditions {
            columns: Vec::new(),
            headers: Vec::new(),
            deepest: query.level,
            level: query.level,
            merged: false,
        };
        for key in &query.keys {
            match column(key.tag) {
                Some(column) => conditions.columns.push((column.level, key)),
                None => {
                    // A patient has no header of its own, only its studies have.
                    conditions.deepest = conditions.deepest.max(level(key.tag)).max(Level::Study);
                    conditions.headers.push(key);
                }
            }
        }
        conditions
    }

    /// The same for patients who were merged: each key of the patient has to be met by somebody of those who are one.
    pub(super) fn of_merged(mut self) -> Conditions<'a> {
        self.merged = true;
        self
    }

    /// What leads to merged patients through an index: a Patient ID with its issuer, or else a name. Without either only the one who is
    /// left is asked.
    pub(super) fn naming(&self) -> Vec<&'a MatchKey> {
        let named = |tags: &[Tag]| {
            let keys = self.columns.iter().map(|(_, key)| *key).filter(|key| tags.contains(&key.tag));
            keys.collect::<Vec<&MatchKey>>()
        };
        match named(&[tags::PATIENT_ID]).is_empty() {
            false => named(&IDENTITY),
            true => named(&[tags::PATIENT_NAME]),
        }
    }

    /// Adds `FROM … WHERE …`: the served rows of the query's level for which all keys with columns hold.
    pub(super) fn push_rows(&self, statement: &mut Statement) {
        let top = self
            .columns
            .iter()
            .map(|(level, _)| *level)
            .min()
            .unwrap_or(self.level)
            .min(self.level);
        self.push_joined(statement, top, self.level);
        self.push_below(statement, self.level);
    }

    /// Adds `FROM … WHERE …`: the served rows from the query's level down to the one whose headers decide.
    pub(super) fn push_lines(&self, statement: &mut Statement) {
        self.push_joined(statement, self.level, self.deepest);
        self.push_below(statement, self.deepest);
    }

    /// Adds `FROM … WHERE …`: the served instances under all keys, with what `join` adds to the tables.
    pub(super) fn push_instances(&self, statement: &mut Statement, join: impl FnOnce(&mut Statement)) {
        statement.push(" FROM ");
        push_tables(statement, Level::Patient, Level::Image);
        join(statement);
        statement.push(" WHERE ").push(served(Level::Image));
        self.push_keys(statement, Level::Patient, Level::Image);
    }

    fn push_joined(&self, statement: &mut Statement, top: Level, bottom: Level) {
        statement.push(" FROM ");
        push_tables(statement, top, bottom);
        statement.push(" WHERE ").push(served(bottom));
        self.push_keys(statement, top, bottom);
    }

    fn push_keys(&self, statement: &mut Statement, top: Level, bottom: Level) {
        let merged = self.merged && top == Level::Patient;
        let narrowed = statement.is_postgres() || !self.headers.is_empty() || self.columns.iter().any(|(_, key)| narrows(key));
        for (at, key) in self.columns.iter().filter(|(level, _)| (top..=bottom).contains(level)) {
            if merged && *at == Level::Patient {
                continue;
            }
            match key.matcher {
                Matcher::Names(_) if !narrowed => push_listed(statement, *at, key),
                _ => push_key(statement, key),
            }
        }
        if merged {
            self.push_merged(statement);
        }
    }

    /// Adds the condition that each key of the patient is met by somebody of those who are one; the Patient ID and its issuer by the same.
    fn push_merged(&self, statement: &mut Statement) {
        let naming = self.naming();
        let of_patient = self
            .columns
            .iter()
            .filter(|(level, _)| *level == Level::Patient)
            .map(|(_, key)| *key);
        let (identity, others): (Vec<&MatchKey>, Vec<&MatchKey>) = of_patient.partition(|key| IDENTITY.contains(&key.tag));
        let groups = [identity].into_iter().chain(others.into_iter().map(|key| vec![key]));
        for keys in groups.filter(|keys| !keys.is_empty()) {
            statement.push(" AND p.id IN (SELECT p.survivor FROM patients p WHERE ");
            if keys == naming {
                statement.push("p.survivor IS NOT NULL");
            } else {
                // Of those whom the naming keys lead to, so that no other key scans.
                statement.push("p.survivor IN (SELECT p.survivor FROM patients p WHERE p.survivor IS NOT NULL");
                naming.iter().for_each(|key| push_key(statement, key));
                statement.push(")");
            }
            keys.iter().for_each(|key| push_key(statement, key));
            statement.push(")");
        }
    }

    /// Adds the condition that some line below `level` meets the keys of the narrower levels.
    fn push_below(&self, statement: &mut Statement, level: Level) {
        let below: Vec<&(Level, &MatchKey)> = self.columns.iter().filter(|(at, _)| *at > level).collect();
        let (Some(next), Some(bottom)) = (narrower(level), below.iter().map(|(at, _)| *at).max()) else {
            return;
        };
        // What an index finds at once leads up from there, and so does what nothing else narrows; other conditions are tried on
        // what is below each row.
        let led = below.iter().any(|(_, key)| is_selective(key.tag)) || self.columns.iter().all(|(at, _)| *at > level);
        statement.push(" AND ");
        if led {
            statement.push(key_of(level)).push(" IN (SELECT ").push(parent_of(next));
        } else {
            statement.push("EXISTS (SELECT 1");
        }
        statement.push(" FROM ");
        push_tables(statement, next, bottom);
        statement.push(" WHERE ").push(served(bottom));
        if !led {
            statement.push(" AND ").push(parent_of(next)).push(" = ").push(key_of(level));
        }
        for (_, key) in below {
            push_key(statement, key);
        }
        statement.push(")");
    }
}

/// What makes a patient one.
const IDENTITY: [Tag; 2] = [tags::PATIENT_ID, tags::ISSUER_OF_PATIENT_ID];

/// Adds `FROM … WHERE …`: rows of merged patients who meet the naming keys.
pub(super) fn push_merged_patients(statement: &mut Statement, naming: &[&MatchKey]) {
    statement.push(" FROM patients p WHERE p.survivor IS NOT NULL");
    naming.iter().for_each(|key| push_key(statement, key));
}

fn is_selective(tag: Tag) -> bool {
    matches!(
        tag,
        tags::STUDY_INSTANCE_UID | tags::ACCESSION_NUMBER | tags::SERIES_INSTANCE_UID | tags::SOP_INSTANCE_UID
    )
}

/// Whether an index leads from a key to rows.
fn narrows(key: &MatchKey) -> bool {
    let by_tag = is_selective(key.tag) || matches!(key.tag, tags::PATIENT_ID | tags::STUDY_DATE);
    let is_begun = |pattern: &NamePattern| !pattern.prefix().is_empty();
    by_tag || matches!(&key.matcher, Matcher::Names(patterns) if patterns.iter().all(is_begun))
}

/// Adds a key that no index finds as a list of rows, for which SQLite goes through an index of all its values once. It would begin with the studies, and look at
/// the patient of each; which is right where something else narrows, or where rows are read a page at a time because headers decide.
fn push_listed(statement: &mut Statement, level: Level, key: &MatchKey) {
    statement
        .push(" AND ")
        .push(key_of(level))
        .push(" IN (SELECT ")
        .push(key_of(level))
        .push(" FROM ");
    push_tables(statement, level, level);
    statement.push(" WHERE 1 = 1");
    push_key(statement, key);
    statement.push(")");
}

fn push_key(statement: &mut Statement, key: &MatchKey) {
    if let Some(column) = column(key.tag) {
        statement.push(" AND ");
        condition(statement, column, key);
    }
}

/// Adds the tables of the levels from `top` to `bottom`, joined.
pub(super) fn push_tables(statement: &mut Statement, top: Level, bottom: Level) {
    let tables = [
        (Level::Patient, "patients p", ""),
        (Level::Study, "studies s", " ON s.patient = p.id"),
        (Level::Series, "series se", " ON se.study = s.id"),
        (Level::Image, "objects o", " ON o.series = se.id"),
    ];
    let joined = tables.iter().filter(|(level, ..)| (top..=bottom).contains(level));
    for (index, (_, table, on)) in joined.enumerate() {
        match index {
            0 => statement.push(table),
            _ => statement.push(" JOIN ").push(table).push(on),
        };
    }
}

/// The row id of a level's table.
pub(super) fn key_of(level: Level) -> &'static str {
    match level {
        Level::Patient => "p.id",
        Level::Study => "s.id",
        Level::Series => "se.id",
        Level::Image => "o.id",
    }
}

/// What leads from a level's table to the one above.
fn parent_of(level: Level) -> &'static str {
    match level {
        Level::Patient => "NULL",
        Level::Study => "s.patient",
        Level::Series => "se.study",
        Level::Image => "o.series",
    }
}

/// What makes a row of a level found: something of it is served.
pub(super) fn served(level: Level) -> &'static str {
    match level {
        Level::Patient => "p.instances > 0",
        Level::Study => "s.instances > 0",
        Level::Series => "se.instances > 0",
        Level::Image => "o.state = 'served'",
    }
}

fn narrower(level: Level) -> Option<Level> {
    match level {
        Level::Patient => Some(Level::Study),
        Level::Study => Some(Level::Series),
        Level::Series => Some(Level::Image),
        Level::Image => None,
    }
}
