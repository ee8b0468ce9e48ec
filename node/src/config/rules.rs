//! `[[rule]]`: what is otherwise for some series.

use std::time::Duration;

use dicom_core::dictionary::{UidDictionary, UidDictionaryEntry};
use dicom_dictionary_std::StandardSopClassDictionary;
use filmroom_index::model::Uid;
use filmroom_tiering::Settings as ArchiveSettings;
use filmroom_tiering::cold::{ColdLocation, ColdSettings};
use filmroom_tiering::pack::Layout;
use filmroom_tiering::rules::{AgeRange, Condition, Effects, Keep, Rule, Rules};

use super::source::Section;
use super::storage::layout;
use super::{Reader, ae_title, values};

/// Each is asked for every series.
const MAX_RULES: usize = 1000;

/// Keys that do something.
const EFFECTS: [&str; 4] = ["evict_after", "archive", "offload_after", "layout"];

const DAY: u64 = 86_400;

impl Reader {
    /// All of them, in the order of the file.
    pub(super) fn rules(&mut self) -> Rules {
        let entries = std::mem::take(&mut self.source.rules);
        if let Some((line, _)) = entries.get(MAX_RULES) {
            self.problems.push(format!("line {line}: there are more than {MAX_RULES} rules"));
        }
        let mut rules: Vec<Rule> = Vec::new();
        for (line, mut entry) in entries {
            let name = self.of_rule(&mut entry, "name", name);
            let name = name.unwrap_or_else(|| format!("rule of line {line}"));
            if rules.iter().any(|rule| rule.name == name) {
                self.problems
                    .push(format!("line {line}: there is a rule {name:?} already: give this one another name"));
            }
            if !EFFECTS.iter().any(|effect| entry.contains_key(*effect)) {
                self.problems.push(format!(
                    "line {line}: this [[rule]] has no effect: write one of {}",
                    EFFECTS.join(", ")
                ));
            }
            let conditions = self.conditions(&mut entry);
            let effects = Effects {
                evict_after: self.of_rule(&mut entry, "evict_after", keep),
                archive: self.of_rule(&mut entry, "archive", values::truth),
                offload_after: self.of_rule(&mut entry, "offload_after", values::duration),
                layout: self.of_rule(&mut entry, "layout", layout),
            };
            rules.push(Rule { name, conditions, effects });
        }
        Rules::new(rules)
    }

    fn conditions(&mut self, entry: &mut Section) -> Vec<Condition> {
        let age = |text: &str| text.parse::<AgeRange>().map_err(|error| error.to_string());
        let conditions = [
            self.list_of_rule(entry, "modality", modality).map(Condition::Modality),
            self.list_of_rule(entry, "sop_class", sop_class).map(Condition::SopClass),
            self.list_of_rule(entry, "study_description", pattern)
                .map(|patterns| Condition::description(&patterns)),
            self.of_rule(entry, "patient_age", age).map(Condition::PatientAge),
            self.list_of_rule(entry, "source", ae_title).map(Condition::Source),
            self.of_rule(entry, "study_age", age).map(Condition::StudyAge),
        ];
        conditions.into_iter().flatten().collect()
    }

    /// One key of an entry. A wrong value is taken out: nothing is done with a configuration that has a problem.
    fn of_rule<T>(&mut self, entry: &mut Section, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let setting = entry.remove(key)?;
        self.parsed("rule", key, &setting, parse)
    }

    /// A text or a list of texts, of which one has to fit.
    fn list_of_rule<T>(&mut self, entry: &mut Section, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<Vec<T>> {
        let setting = entry.remove(key)?;
        if setting.values.is_empty() {
            self.problems.push(format!(
                "{}: rule.{key}: nothing is in an empty list: write a value, or take the line out",
                setting.origin
            ));
        }
        let mut list = Vec::new();
        for value in &setting.values {
            match parse(value) {
                Ok(one) => list.push(one),
                Err(problem) => self.problems.push(format!("{}: rule.{key}: {problem}", setting.origin)),
            }
        }
        Some(list)
    }
}

/// What of rules has no effect, or another one than it seems.
pub(super) fn warn(archive: &ArchiveSettings, warnings: &mut Vec<String>) {
    for (rule, by) in archive.rules.shadowed() {
        warnings.push(format!(
            "no series ever meets the rule {:?}: {:?} stands before it and takes all of them: put it above, or take it out",
            rule.name, by.name
        ));
    }
    for rule in archive.rules.iter() {
        warn_of(rule, archive.cold.as_ref(), warnings);
    }
    warn_of_layout(archive, warnings);
}

/// What one object per instance costs in S3.
fn warn_of_layout(archive: &ArchiveSettings, warnings: &mut Vec<String>) {
    let in_s3 = archive
        .cold
        .as_ref()
        .is_some_and(|cold| matches!(cold.location, ColdLocation::S3 { .. }));
    let by_rule = archive.rules.iter().find(|rule| rule.effects.layout == Some(Layout::Instance));
    let what = match (archive.layout, by_rule) {
        _ if !in_s3 => return,
        (Layout::Instance, _) => "cold.layout = \"instance\"".to_owned(),
        (Layout::Pack, Some(rule)) => format!("the rule {:?}: layout = \"instance\"", rule.name),
        (Layout::Pack, None) => return,
    };
    warnings.push(format!(
        "{what} puts one object per instance: S3 Intelligent-Tiering never moves an object under 128 KB to a cheaper tier, bills monitoring for each one above, \
         and each is a request of its own when it is put, read or restored: packs are for that (filmroom cost compares both)"
    ));
}

fn warn_of(rule: &Rule, cold: Option<&ColdSettings>, warnings: &mut Vec<String>) {
    let name = &rule.name;
    let Some(cold) = cold else {
        warnings.push(format!(
            "the rule {name:?} has no effect: without [cold] everything stays on the disk"
        ));
        return;
    };
    if rule.effects.archive.is_some() {
        match (&cold.location, &cold.archive) {
            (ColdLocation::Directory(_), _) => warnings.push(format!(
                "the rule {name:?}: archive has no effect: the cold store is a directory, which archives nothing and has no object tags"
            )),
            (ColdLocation::S3 { .. }, None) => warnings.push(format!(
                "the rule {name:?}: archive has no effect of this node's: without [cold.archive] nothing is archived"
            )),
            _ => {}
        }
    }
    let days = cold.archive.and_then(|days| days.access.or(days.deep));
    let (Some(days), Some(Keep::For(time)), true) = (days, rule.effects.evict_after, rule.effects.archive != Some(false)) else {
        return;
    };
    if time >= Duration::from_secs(u64::from(days) * DAY) {
        warnings.push(format!(
            "the rule {name:?} keeps series on the disk for as long as S3 takes to archive their packs ({days} days) or longer: what is archived leaves the disk \
             only where that is too full, and takes hours to come back: write archive = false with it, or a shorter evict_after"
        ));
    }
}

fn name(text: &str) -> Result<String, String> {
    let name = text.trim();
    match name.chars().count() {
        1..=64 if !name.chars().any(char::is_control) => Ok(name.to_owned()),
        _ => Err(format!("{text:?} is no name of a rule: 1 to 64 characters")),
    }
}

/// A value of Modality (PS3.5 6.2, CS).
fn modality(text: &str) -> Result<String, String> {
    let code = text.trim();
    let fits = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || matches!(c, ' ' | '_');
    match code.len() {
        1..=16 if code.chars().all(fits) => Ok(code.to_owned()),
        _ => Err(format!("{text:?} is no modality: write such as \"CT\" or [\"CR\", \"DX\"]")),
    }
}

/// A UID, or a keyword of PS3.6 A.
fn sop_class(text: &str) -> Result<Uid, String> {
    let named = StandardSopClassDictionary.by_keyword(text.trim());
    let uid = named.map_or(text, UidDictionaryEntry::uid);
    Uid::parse(uid).map_err(|_| format!("{text:?} is neither the UID nor the keyword of a SOP class, such as \"CTImageStorage\""))
}

fn pattern(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("an empty description: write such as \"*thorax*\"; * stands for any characters, ? for one".to_owned()),
        pattern => Ok(pattern.to_owned()),
    }
}

fn keep(text: &str) -> Result<Keep, String> {
    match text.trim() {
        "never" => Ok(Keep::Always),
        text => values::duration(text)
            .map(Keep::For)
            .map_err(|problem| format!("{problem}, or \"never\"")),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn parse(text: &str) -> Result<Config, Vec<String>> {
        Config::parse(text, std::iter::empty())
    }

    const S3: &str = "[cold]\nurl = \"s3://b\"\n[cold.archive]\naccess_days = 90\n[hot]\nevict_after = \"30d\"\n";

    #[test]
    fn a_rule_reads_as_people_write_it() {
        let text = format!(
            "{S3}[[rule]]\nname = \"children\"\nmodality = [\"CT\", \"MR\"]\nsop_class = \"CTImageStorage\"\nstudy_description = \"*kopf*\"\n\
             patient_age = \"<18y\"\nsource = \"CT1\"\nstudy_age = \"<=10y\"\nevict_after = \"never\"\narchive = false\noffload_after = \"0s\"\nlayout = \"pack\"\n\
             [[rule]]\nevict_after = \"60d\"\n"
        );
        let config = parse(&text).unwrap();
        assert_eq!(config.warnings, Vec::<String>::new());
        let rules: Vec<_> = config.archive.rules.iter().collect();
        assert_eq!((rules[0].name.as_str(), rules[0].conditions.len()), ("children", 6));
        assert_eq!((rules[1].name.as_str(), rules[1].conditions.len()), ("rule of line 19", 0));
        assert!(config.archive.rules.forbid_archive());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_what_to_write() {
        for (line, words) in [
            (
                "modality = \"ct\"",
                "line 2: rule.modality: \"ct\" is no modality: write such as \"CT\"",
            ),
            ("sop_class = \"CTStorage\"", "line 2: rule.sop_class: \"CTStorage\" is neither"),
            (
                "patient_age = \"18\"",
                "line 2: rule.patient_age: \"18\" is no age: write such as \"<18y\"",
            ),
            ("study_age = \"2y..1y\"", "line 2: rule.study_age: "),
            ("source = \"FAR TOO LONG A TITLE\"", "line 2: rule.source: "),
            ("source = []", "line 2: rule.source: nothing is in an empty list"),
            ("study_description = \" \"", "line 2: rule.study_description: an empty description"),
            ("modalty = \"CT\"", "line 2: [rule] has no key modalty: did you mean modality?"),
            ("evict_after = \"ever\"", "line 3: rule.evict_after: \"ever\" is not a duration"),
            ("archive = \"no\"", "line 3: rule.archive: \"no\" is neither true nor false"),
            ("layout = \"zip\"", "line 2: rule.layout: \"zip\" is no layout: write \"pack\""),
            ("name = \"\"", "line 2: rule.name: "),
        ] {
            let effect = if line.starts_with("evict") || line.starts_with("archive") {
                "name = \"x\""
            } else {
                ""
            };
            let text = match effect {
                "" => format!("[[rule]]\n{line}\nevict_after = \"1d\"\n"),
                first => format!("[[rule]]\n{first}\n{line}\n"),
            };
            let problems = parse(&text).unwrap_err().join("\n");
            assert!(problems.contains(words), "{text}{problems}");
        }
        let without = parse("[[rule]]\nmodality = \"CT\"\n").unwrap_err().join("\n");
        assert!(without.contains("line 1: this [[rule]] has no effect"), "{without}");
        let one = parse("[rule]\nmodality = \"CT\"\n").unwrap_err().join("\n");
        assert!(one.contains("rules are a list: write [[rule]]"), "{one}");
        let twice = "[[rule]]\nname = \"a\"\narchive = true\n[[rule]]\nname = \"a\"\narchive = true\n";
        assert!(
            parse(twice)
                .unwrap_err()
                .join("\n")
                .contains("line 4: there is a rule \"a\" already")
        );
    }

    #[test]
    fn what_has_no_effect_is_warned_of() {
        let warnings = |text: &str| parse(text).unwrap().warnings.join("\n");
        let forbid = "[[rule]]\nname = \"a\"\narchive = false\n";
        assert!(warnings(forbid).contains("without [cold] everything stays"));
        assert!(warnings(&format!("[cold]\nurl = \"file:///mnt\"\n{forbid}")).contains("a directory, which archives nothing"));
        assert!(warnings(&format!("[cold]\nurl = \"s3://b\"\n{forbid}")).contains("without [cold.archive]"));
        assert_eq!(warnings(&format!("{S3}{forbid}")), "");
        let long = |more: &str| warnings(&format!("{S3}[[rule]]\nevict_after = \"3y\"\n{more}"));
        assert!(long("").contains("write archive = false with it"), "{}", long(""));
        assert_eq!(long("archive = false\n"), "");
        let shadowed = format!(
            "{S3}[[rule]]\nname = \"all\"\nmodality = \"CT\"\narchive = false\n[[rule]]\nname = \"few\"\nmodality = \"CT\"\nsource = \"A\"\narchive = false\n"
        );
        assert!(warnings(&shadowed).contains("no series ever meets the rule \"few\": \"all\" stands before it"));
    }
}
