//! Which attributes are columns, and how a key becomes a condition on one.
//!
//! A condition finds exactly what the key's [`Matcher`] matches. Where an index can help, the condition says a range on the bare
//! column beside what has to hold: both databases compare these columns by bytes.

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;

use super::statement::Statement;
use crate::catalogue::lists::Texts;
use crate::model::Level;
use crate::query::fold::SPELLINGS;
use crate::query::glob::{Glob, after_prefix};
use crate::query::range::{MomentRange, Range};
use crate::query::{MatchKey, Matcher, NamePattern};

/// An attribute's column.
#[derive(Clone, Copy)]
pub(super) struct Column {
    /// The entity whose table has it
    pub(super) level: Level,
    /// Alias and name
    name: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    /// One value as it is, trimmed
    Text,
    /// The same, in the row of `kinds` that the object's row names
    Shared,
    /// A date or time in normal form, or what was no date
    Moment(VR),
    Number,
    /// A folded name: SQLite's expressions for its three component groups, and PostgreSQL's
    Name([&'static str; 3], [&'static str; 3]),
    /// Sorted values, joined by a backslash
    List,
}

macro_rules! name {
    ($column:literal) => {
        Kind::Name(
            [
                concat!("substr(", $column, ", 1, instr(", $column, " || '=', '=') - 1)"),
                concat!(
                    "substr(substr(",
                    $column,
                    ", instr(",
                    $column,
                    " || '=', '=') + 1), 1, instr(substr(",
                    $column,
                    ", instr(",
                    $column,
                    " || '=', '=') + 1) || '=', '=') - 1)"
                ),
                concat!(
                    "substr(substr(",
                    $column,
                    ", instr(",
                    $column,
                    " || '=', '=') + 1), instr(substr(",
                    $column,
                    ", instr(",
                    $column,
                    " || '=', '=') + 1) || '=', '=') + 1)"
                ),
            ],
            [
                concat!("split_part(", $column, ", '=', 1)"),
                concat!("split_part(", $column, ", '=', 2)"),
                concat!("split_part(", $column, ", '=', 3)"),
            ],
        )
    };
}

/// The column of an attribute, if it has one.
pub(super) fn column(tag: Tag) -> Option<Column> {
    let (level, name, kind) = match tag {
        tags::PATIENT_ID => (Level::Patient, "p.patient_id", Kind::Text),
        tags::ISSUER_OF_PATIENT_ID => (Level::Patient, "p.issuer", Kind::Text),
        tags::PATIENT_NAME => (Level::Patient, "p.name_folded", name!("p.name_folded")),
        tags::PATIENT_BIRTH_DATE => (Level::Patient, "p.birth_date", Kind::Moment(VR::DA)),
        tags::PATIENT_SEX => (Level::Patient, "p.sex", Kind::Text),
        tags::STUDY_INSTANCE_UID => (Level::Study, "s.study_uid", Kind::Text),
        tags::STUDY_DATE => (Level::Study, "s.study_date", Kind::Moment(VR::DA)),
        tags::STUDY_TIME => (Level::Study, "s.study_time", Kind::Moment(VR::TM)),
        tags::ACCESSION_NUMBER => (Level::Study, "s.accession_number", Kind::Text),
        tags::STUDY_ID => (Level::Study, "s.study_id", Kind::Text),
        tags::STUDY_DESCRIPTION => (Level::Study, "s.description", Kind::Text),
        tags::REFERRING_PHYSICIAN_NAME => (Level::Study, "s.referring_folded", name!("s.referring_folded")),
        tags::MODALITIES_IN_STUDY => (Level::Study, "s.modalities", Kind::List),
        tags::SOP_CLASSES_IN_STUDY => (Level::Study, "s.sop_classes", Kind::List),
        tags::SERIES_INSTANCE_UID => (Level::Series, "se.series_uid", Kind::Text),
        tags::MODALITY => (Level::Series, "se.modality", Kind::Text),
        tags::SERIES_NUMBER => (Level::Series, "se.series_number", Kind::Number),
        tags::SERIES_DESCRIPTION => (Level::Series, "se.description", Kind::Text),
        tags::BODY_PART_EXAMINED => (Level::Series, "se.body_part", Kind::Text),
        tags::SERIES_DATE => (Level::Series, "se.series_date", Kind::Moment(VR::DA)),
        tags::SERIES_TIME => (Level::Series, "se.series_time", Kind::Moment(VR::TM)),
        tags::SOP_INSTANCE_UID => (Level::Image, "o.sop_instance_uid", Kind::Text),
        tags::SOP_CLASS_UID => (Level::Image, "ki.sop_class_uid", Kind::Shared),
        tags::INSTANCE_NUMBER => (Level::Image, "o.instance_number", Kind::Number),
        _ => return None,
    };
    Some(Column { level, name, kind })
}

/// Adds the condition that a key makes on its column.
pub(super) fn condition(statement: &mut Statement, column: Column, key: &MatchKey) {
    match (&key.matcher, column.kind) {
        // A list that is made once. A join might begin at the kinds, from which no index leads to objects.
        (_, Kind::Shared) => {
            statement.push("o.kind IN (SELECT ki.id FROM kinds ki WHERE ");
            let text = Column {
                kind: Kind::Text,
                ..column
            };
            condition(statement, text, key);
            statement.push(")");
        }
        (Matcher::Uids(uids), Kind::Text) => {
            statement.push(column.name).in_texts(uids.iter().collect());
        }
        (Matcher::Uids(values), Kind::List) => among(statement, column.name, values.iter().collect()),
        (Matcher::Text(globs), Kind::Text) => text(statement, column.name, globs),
        (Matcher::Text(globs), Kind::List) => list(statement, column.name, globs),
        (Matcher::Number(numbers), Kind::Number) => {
            let ids: Vec<i64> = numbers.iter().filter_map(|number| number.parse().ok()).collect();
            statement.push(column.name).in_ids(&ids);
        }
        (Matcher::Ranges(ranges), Kind::Moment(vr)) => moments(statement, column.name, vr, ranges),
        (Matcher::Moments { time, range }, Kind::Moment(VR::DA)) => match self::column(*time) {
            Some(time) => combined(statement, column.name, time.name, range),
            None => {
                statement.push("1 = 0");
            }
        },
        (Matcher::Names(patterns), Kind::Name(sqlite, postgres)) => {
            let groups = if statement.is_postgres() { postgres } else { sqlite };
            any(statement, patterns, |statement, pattern| {
                name(statement, column.name, &groups, pattern)
            });
        }
        // The matcher follows from the attribute's representation, and so does the kind of its column.
        _ => {
            statement.push("1 = 0");
        }
    }
}

/// One of some conditions; none of none.
fn any<T>(statement: &mut Statement, items: &[T], mut each: impl FnMut(&mut Statement, &T)) {
    if items.is_empty() {
        statement.push("1 = 0");
        return;
    }
    for (index, item) in items.iter().enumerate() {
        statement.push(if index == 0 { "(" } else { " OR " });
        each(statement, item);
    }
    statement.push(")");
}

fn text(statement: &mut Statement, column: &'static str, globs: &[Glob]) {
    let literals: Option<Texts> = globs.iter().map(Glob::as_literal).collect::<Option<Vec<_>>>().map(Texts::from_iter);
    match literals {
        Some(literals) => {
            statement.push(column).in_texts(literals);
        }
        None => any(statement, globs, |statement, glob| {
            prefix(statement, column, glob.prefix());
            like(statement, column, glob);
        }),
    }
}

/// The range of an index in which everything lies that begins with a text, and `AND`.
fn prefix(statement: &mut Statement, column: &'static str, prefix: &str) {
    if prefix.is_empty() {
        return;
    }
    statement.push(column).push(" >= ").text(prefix).push(" AND ");
    if let Some(end) = after_prefix(prefix) {
        statement.push(column).push(" < ").text(end).push(" AND ");
    }
}

/// A glob on an expression. An empty value matches none: it is unknown.
fn like(statement: &mut Statement, expression: &'static str, glob: &Glob) {
    match glob.as_literal() {
        Some(literal) => {
            statement.push(expression).push(" = ").text(literal);
        }
        None if statement.is_postgres() => {
            statement.push(expression).push(" LIKE ").text(glob.to_like()).push(" ESCAPE '\\'");
        }
        None => {
            statement.push(expression).push(" GLOB ").text(glob.to_sqlite_glob());
        }
    }
    statement.push(" AND ").push(expression).push(" <> ''");
}

fn moments(statement: &mut Statement, column: &'static str, vr: VR, ranges: &[Range]) {
    let (first, last, length) = match vr {
        VR::DA => ("00000000", "99999999", 8),
        _ => ("000000.000000", "999999.999999", 13),
    };
    any(statement, ranges, |statement, range| {
        let (from, to) = (range.from.as_deref().unwrap_or(first), range.to.as_deref().unwrap_or(last));
        statement.push(column).push(" >= ").text(from).push(" AND ");
        statement.push(column).push(" <= ").text(to);
    });
    // What was no date or time stands there too, and matches no range.
    statement.push(" AND ");
    readable(statement, column, length);
}

/// What is in the column is a date or time in normal form.
fn readable(statement: &mut Statement, column: &'static str, length: i64) {
    statement
        .push("(length(")
        .push(column)
        .push(") = ")
        .number(length)
        .push(" AND ")
        .push(column);
    statement.pick(" NOT GLOB '*[^0-9.]*')", " !~ '[^0-9.]')");
}

/// A date and its time as one moment. A time that is not known decides nothing.
fn combined(statement: &mut Statement, date: &'static str, time: &'static str, range: &MomentRange) {
    readable(statement, date, 8);
    for (end, within, inside, bound) in [(&range.from, " >= ", " > ", " >= "), (&range.to, " <= ", " < ", " <= ")] {
        let Some((day, moment)) = end else {
            continue;
        };
        statement.push(" AND ").push(date).push(within).text(day);
        statement.push(" AND (").push(date).push(inside).text(day).push(" OR NOT ");
        readable(statement, time, 13);
        statement.push(" OR ").push(time).push(bound).text(moment).push(")");
    }
}

fn name(statement: &mut Statement, column: &'static str, groups: &[&'static str; 3], pattern: &NamePattern) {
    match pattern {
        NamePattern::AnyGroup(globs) => any(statement, groups, |statement, group| spellings(statement, group, globs)),
        NamePattern::Words(globs) => {
            statement.push(column).push(" <> ''");
            for glob in globs {
                statement.push(" AND ");
                words(statement, column);
                match statement.is_postgres() {
                    true => statement.push(" LIKE ").text(glob.to_like()).push(" ESCAPE '\\'"),
                    false => statement.push(" GLOB ").text(glob.to_sqlite_glob()),
                };
            }
        }
        NamePattern::Groups(wanted) => {
            // The alphabetic group stands first in the column.
            prefix(statement, column, pattern.prefix());
            statement.push("1 = 1");
            for (index, globs) in wanted.iter().enumerate().filter(|(_, globs)| !globs.is_empty()) {
                statement.push(" AND ");
                match groups.get(index) {
                    Some(group) => spellings(statement, group, globs),
                    None => {
                        statement.push("1 = 0");
                    }
                }
            }
        }
    }
}

/// The words of a folded name, as fuzzy matching has them.
fn words(statement: &mut Statement, column: &'static str) {
    for _ in SPELLINGS {
        statement.push("replace(");
    }
    statement.push("' ' || ").push(column);
    for (from, to) in SPELLINGS {
        statement.push(", '").push(from).push("', '").push(to).push("')");
    }
}

fn spellings(statement: &mut Statement, group: &'static str, globs: &[Glob]) {
    any(statement, globs, |statement, glob| like(statement, group, glob));
}

/// A list column of which one value matches. A wildcard that can cross from one value to the next asks the series instead.
fn list(statement: &mut Statement, column: &'static str, globs: &[Glob]) {
    match globs.iter().map(Glob::as_literal).collect::<Option<Texts>>() {
        Some(literals) => among(statement, column, literals),
        None => {
            statement.push("EXISTS (SELECT 1 FROM series m WHERE m.study = s.id AND m.instances > 0 AND ");
            text(statement, "m.modality", globs);
            statement.push(")");
        }
    }
}

/// A list column that has one of some values. SQLite is given a value to compute: it would turn EXISTS around and begin with the values, and then go through the
/// whole table for each of them.
fn among(statement: &mut Statement, column: &'static str, values: Texts) {
    statement.pick("(SELECT max(instr", "EXISTS (SELECT 1 FROM ");
    if statement.is_postgres() {
        statement.rows_of(values).push(" WHERE strpos");
        contains(statement, column).push(" > 0)");
    } else {
        contains(statement, column).push(") FROM ").rows_of(values).push(") > 0");
    }
}

/// Adds the arguments with which a position is looked for: those of a value in a list.
fn contains<'a>(statement: &'a mut Statement, column: &'static str) -> &'a mut Statement {
    statement.push("('\\' || ").push(column).push(" || '\\', '\\' || k.value || '\\')")
}
