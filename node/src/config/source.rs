//! Where settings come from: one TOML file, and environment variables over it. Every value keeps its origin, so that an error can say
//! where to look; every key is checked against the known ones before anything is read.

use std::collections::BTreeMap;
use std::fmt;

use toml::de::{DeTable, DeValue};

use super::keys::{check_key, is_section, known_keys, within};

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Line of the file, from 1
    Line(usize),
    /// Environment variable
    Environment(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Line(line) => write!(f, "line {line}"),
            Origin::Environment(name) => f.write_str(name),
        }
    }
}

/// A value as text; a list of texts for an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    /// One text, or the texts of an array
    pub(crate) values: Vec<String>,
    /// Where it was written
    pub(crate) origin: Origin,
}

/// One section.
pub(crate) type Section = BTreeMap<String, Setting>;

/// Everything that was written, by section; entries of `[[ae]]`, `[[user]]` and `[[rule]]` in their order with the line that each starts on.
#[derive(Debug, Default)]
pub(crate) struct Source {
    /// The sections
    pub(crate) sections: BTreeMap<String, Section>,
    /// The `[[ae]]` entries
    pub(crate) aes: Vec<(usize, Section)>,
    /// The `[[user]]` entries
    pub(crate) users: Vec<(usize, Section)>,
    /// The `[[rule]]` entries
    pub(crate) rules: Vec<(usize, Section)>,
}

impl Source {
    /// The list that a section is an entry of; none for one that is there once.
    fn list(&mut self, section: &str) -> Option<&mut Vec<(usize, Section)>> {
        match section {
            "ae" => Some(&mut self.aes),
            "user" => Some(&mut self.users),
            "rule" => Some(&mut self.rules),
            _ => None,
        }
    }
}

/// Reads the file's text and the environment. What is wrong is added to `problems`, one line each; what is right is returned all the same.
pub(crate) fn read(text: &str, environment: impl Iterator<Item = (String, String)>, problems: &mut Vec<String>) -> Source {
    let mut source = Source::default();
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let line = error.span().map_or(0, |span| line_of(text, span.start));
        problems.push(format!("line {line}: {}", error.message()));
    }
    for (name, value) in table.get_ref() {
        read_section(
            text,
            name.get_ref(),
            line_of(text, name.span().start),
            value.get_ref(),
            &mut source,
            problems,
        );
    }
    for (name, value) in environment {
        read_variable(&name, value, &mut source, problems);
    }
    source
}

fn read_section(text: &str, name: &str, line: usize, value: &DeValue<'_>, source: &mut Source, problems: &mut Vec<String>) {
    let Some(keys) = known_keys(name, &format!("line {line}"), problems) else {
        return;
    };
    match (source.list(name), value) {
        (Some(list), DeValue::Array(entries)) => {
            for entry in entries.iter() {
                let start = line_of(text, entry.span().start);
                match entry.get_ref() {
                    DeValue::Table(table) => list.push((start, read_table(text, name, keys, table, problems))),
                    _ => problems.push(format!("line {start}: each is a table of its own: write [[{name}]]")),
                }
            }
        }
        (Some(_), _) => {
            let what = match name {
                "ae" => "remote AEs",
                "user" => "users",
                _ => "rules",
            };
            problems.push(format!("line {line}: {what} are a list: write [[{name}]], with two brackets"));
        }
        (None, DeValue::Table(table)) => {
            let section = read_table(text, name, keys, table, problems);
            source.sections.entry(name.to_owned()).or_default().extend(section);
            for (key, value) in table {
                let inner = within(name, key.get_ref());
                if is_section(&inner) {
                    read_section(text, &inner, line_of(text, key.span().start), value.get_ref(), source, problems);
                }
            }
        }
        _ => problems.push(format!("line {line}: {name} is a section: write [{name}] on a line of its own")),
    }
}

fn read_table(text: &str, section: &str, keys: &[&str], table: &DeTable<'_>, problems: &mut Vec<String>) -> Section {
    let mut settings = Section::new();
    for (key, value) in table {
        let line = line_of(text, key.span().start);
        if is_section(&within(section, key.get_ref())) {
            continue;
        }
        if !check_key(section, key.get_ref(), keys, &format!("line {line}"), problems) {
            continue;
        }
        match values_of(value.get_ref()) {
            Some(values) => {
                settings.insert(
                    key.get_ref().to_string(),
                    Setting {
                        values,
                        origin: Origin::Line(line),
                    },
                );
            }
            None => problems.push(format!(
                "line {line}: {section}.{} takes a text, a number or a list of texts",
                key.get_ref()
            )),
        }
    }
    settings
}

fn values_of(value: &DeValue<'_>) -> Option<Vec<String>> {
    match value {
        DeValue::String(text) => Some(vec![text.to_string()]),
        DeValue::Integer(number) => Some(vec![number.as_str().to_owned()]),
        DeValue::Float(number) => Some(vec![number.as_str().to_owned()]),
        DeValue::Boolean(truth) => Some(vec![truth.to_string()]),
        DeValue::Array(entries) => entries.iter().map(|entry| values_of(entry.get_ref())?.pop()).collect(),
        _ => None,
    }
}

/// `FILMROOM_<SECTION>__<KEY>`, or `FILMROOM_<SECTION>__<SECTION>__<KEY>` for a section within another; a list is separated by commas.
fn read_variable(name: &str, value: String, source: &mut Source, problems: &mut Vec<String>) {
    let Some((section, key)) = name.strip_prefix("FILMROOM_").and_then(|rest| rest.split_once("__")) else {
        return;
    };
    let (mut section, mut key) = (section.to_ascii_lowercase(), key.to_ascii_lowercase());
    if let Some((inner, rest)) = key.split_once("__") {
        (section, key) = (within(&section, inner), rest.to_owned());
    }
    let Some(keys) = known_keys(&section, name, problems) else { return };
    if source.list(&section).is_some() {
        problems.push(format!("{name}: these are listed in the file only, as [[{section}]]"));
        return;
    }
    if check_key(&section, &key, keys, name, problems) {
        let values = value.split(',').map(|v| v.trim().to_owned()).collect();
        let setting = Setting {
            values,
            origin: Origin::Environment(name.to_owned()),
        };
        source.sections.entry(section).or_default().insert(key, setting);
    }
}

fn line_of(text: &str, position: usize) -> usize {
    text.bytes().take(position).filter(|b| *b == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems_of(text: &str) -> Vec<String> {
        let mut problems = Vec::new();
        read(text, std::iter::empty(), &mut problems);
        problems
    }

    #[test]
    fn a_misspelt_key_names_its_line_and_the_nearest_known_key() {
        let problems = problems_of("[hot]\n\nevict_afer = \"90d\"\n");
        assert_eq!(problems, ["line 3: [hot] has no key evict_afer: did you mean evict_after?"]);
    }

    #[test]
    fn a_misspelt_section_names_the_nearest_known_section() {
        assert_eq!(
            problems_of("[dicm]\n"),
            ["line 1: there is no section [dicm]: did you mean [dicom]?"]
        );
    }

    #[test]
    fn one_bracket_around_ae_is_explained() {
        assert_eq!(
            problems_of("[ae]\ntitle = \"X\"\n"),
            ["line 1: remote AEs are a list: write [[ae]], with two brackets"]
        );
    }

    #[test]
    fn broken_toml_names_the_line() {
        assert!(problems_of("[node]\nae_title = \n")[0].starts_with("line 2: "));
    }

    #[test]
    fn the_environment_stands_over_the_file() {
        let mut problems = Vec::new();
        let environment = [
            ("FILMROOM_NODE__AE_TITLE".to_owned(), "B".to_owned()),
            ("FILMROOM_HTTP".to_owned(), "ignored".to_owned()),
        ];
        let source = read("[node]\nae_title = \"A\"\n", environment.into_iter(), &mut problems);
        assert!(problems.is_empty());
        assert_eq!(source.sections["node"]["ae_title"].values, ["B"]);
    }
}
