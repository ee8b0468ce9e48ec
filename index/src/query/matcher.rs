//! What a key matches (PS3.4 C.2.2.2), decided on values in memory. The catalogue's SQL has to come to the same answers.

use dicom_core::VR;

use super::fold::fold_name;
use super::glob::Glob;
use super::range::{Range, normal};

/// A condition on the values of one attribute. Universal matching is no condition and has no variant. An attribute that is
/// absent or empty matches none of these; of several values one has to match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Matcher {
    /// Single value and wildcard matching of text, by case; also one of several values, an extension of ours (`CT\MR`).
    Text(Vec<Glob>),
    /// Single value matching of a number (IS, DS), in normal form: `01` is `1`. What is no number was left out and matches none.
    Number(Vec<String>),
    /// List of UID matching. What cannot be a UID was left out, so the list may be empty: then nothing matches.
    Uids(Vec<String>),
    /// Range matching of dates and times; a single value is a range too. One of these.
    Ranges(Vec<Range>),
    /// Person name matching: without regard to case, accents and trailing delimiters.
    Names(Vec<NamePattern>),
}

/// A folded person name key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamePattern {
    /// A key of one component group in another script than Latin: any group of the name may be it, in any of these spellings.
    AnyGroup(Vec<Glob>),
    /// Component groups by their place, each in any of some spellings; a group without one may be anything. A key of one group
    /// in Latin letters is for the first, alphabetic group, which alone an index finds.
    Groups(Vec<Vec<Glob>>),
}

impl Matcher {
    /// Whether the values of an attribute match.
    pub fn matches(&self, vr: VR, values: &[String]) -> bool {
        values.iter().any(|value| self.matches_value(vr, trim(value)))
    }

    fn matches_value(&self, vr: VR, value: &str) -> bool {
        if value.is_empty() {
            return false;
        }
        match self {
            Matcher::Text(globs) => globs.iter().any(|glob| glob.matches(value)),
            Matcher::Number(numbers) => number(vr, value).is_some_and(|value| numbers.contains(&value)),
            Matcher::Uids(uids) => uids.iter().any(|uid| uid == value),
            Matcher::Ranges(ranges) => normal(vr, value).is_some_and(|value| ranges.iter().any(|range| range.holds(&value))),
            Matcher::Names(patterns) => {
                let folded = fold_name(value);
                patterns.iter().any(|pattern| pattern.matches(&folded))
            }
        }
    }
}

impl NamePattern {
    /// Reads a key; none if it is universal.
    pub(super) fn parse(key: &str) -> Option<NamePattern> {
        let folded = fold_name(key);
        let groups: Vec<Vec<Glob>> = folded.split('=').map(group).collect();
        match groups.as_slice() {
            [only] if only.is_empty() => None,
            [only] if !is_latin(&folded) => Some(NamePattern::AnyGroup(only.clone())),
            groups if groups.iter().all(Vec::is_empty) => None,
            _ => Some(NamePattern::Groups(groups)),
        }
    }

    /// Whether a folded name matches.
    pub fn matches(&self, folded: &str) -> bool {
        match self {
            NamePattern::AnyGroup(globs) => folded.split('=').any(|group| globs.iter().any(|glob| glob.matches(group))),
            NamePattern::Groups(groups) => {
                let mut found = folded.split('=');
                groups.iter().all(|globs| {
                    let text = found.next().unwrap_or("");
                    globs.is_empty() || globs.iter().any(|glob| glob.matches(text))
                })
            }
        }
    }
}

/// Whether all letters are Latin ones (or there are none).
fn is_latin(folded: &str) -> bool {
    folded.chars().all(|c| c < '\u{250}' || !c.is_alphabetic())
}

/// The patterns of one component group; none if it is universal.
///
/// Trailing delimiters are insignificant, so `DOE` is also `DOE^^^^` and `DOE^*` has to find it: besides the pattern as it stands
/// there is one for each `^*` that may be left off its end.
fn group(folded: &str) -> Vec<Glob> {
    let mut text = folded;
    let mut globs = Vec::new();
    loop {
        let glob = Glob::wildcard(text);
        if text.is_empty() || glob.is_universal() {
            return Vec::new();
        }
        globs.push(glob);
        match text.strip_suffix("^*") {
            Some(shorter) => text = shorter.trim_end_matches('^'),
            None => return globs,
        }
        if text.is_empty() {
            return Vec::new();
        }
    }
}

/// A stored value without its padding.
pub(crate) fn trim(value: &str) -> &str {
    value.trim_matches([' ', '\0'])
}

/// An IS or DS value in a form in which equal numbers are equal texts; none if it is no number.
pub(crate) fn number(vr: VR, value: &str) -> Option<String> {
    let value = trim(value);
    match vr {
        VR::IS => value.parse::<i64>().ok().map(|whole| whole.to_string()),
        _ => value
            .parse::<f64>()
            .ok()
            .filter(|d| d.is_finite())
            .map(|decimal| (decimal + 0.0).to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(key: &str, stored: &str) -> bool {
        NamePattern::parse(key).is_none_or(|pattern| pattern.matches(&fold_name(stored)))
    }

    #[test]
    fn names_match_without_case_accents_and_trailing_delimiters() {
        for (key, stored, expected) in [
            ("MÜLLER^Jürgen", "Müller^Jürgen", true),
            ("muller^jurgen^^^", "MÜLLER^JÜRGEN", true),
            ("M?ller^*", "Müller^Jürgen", true),
            ("M?ller*", "Mueller^J", false),
            ("DOE", "Doe^John", false),
            ("DOE*", "Doe^John", true),
            ("DOE^J*", "Doe^Jane^^Dr", true),
            ("*^John", "Doe^John", true),
            ("DOE^*", "Doe", true),
            ("DOE^*^*", "Doe", true),
            ("DOE^*", "Doering^X", false),
            ("^^*", "Doe", true),
            ("*^*", "Doe", true),
            ("山田*", "Yamada^Tarou=山田^太郎=やまだ^たろう", true),
            ("yamada^tarou", "Yamada^Tarou=山田^太郎", true),
            ("=山田^太郎", "Yamada^Tarou=山田^太郎", true),
            ("=yamada*", "Yamada^Tarou=山田^太郎", false),
            ("Yamada*=山?*", "Yamada^Tarou=山田^太郎", true),
            ("Sato*=山田*", "Yamada^Tarou=山田^太郎", false),
            ("*=山田*", "Yamada^Tarou", false),
            ("100%", "100X", false),
        ] {
            assert_eq!(name(key, stored), expected, "{key} {stored}");
        }
    }

    #[test]
    fn a_name_key_of_wildcards_only_is_universal() {
        for key in ["*", "**", "*^*", "^*", "=", "*=*", "", "^^^"] {
            assert_eq!(NamePattern::parse(key), None, "{key}");
        }
    }

    #[test]
    fn numbers_are_compared_as_numbers() {
        for (a, b) in [
            ("1", "01"),
            ("+5", "5"),
            ("1.0", "1.00"),
            ("-0.0", "0.0"),
            ("1e2", "100.0"),
            (" 7 ", "7"),
        ] {
            assert_eq!(number(VR::DS, a), number(VR::DS, b), "{a} {b}");
        }
        assert_eq!(number(VR::IS, "007"), Some("7".into()));
        for text in ["", "NaN", "inf", "1x", "1.5"] {
            assert_eq!(number(VR::IS, text), None, "{text}");
        }
        assert_ne!(number(VR::DS, "1"), number(VR::DS, "10"));
    }

    #[test]
    fn an_absent_value_matches_no_condition() {
        let any = Matcher::Text(vec![Glob::wildcard("?*")]);
        assert!(!any.matches(VR::LO, &[]));
        assert!(!any.matches(VR::LO, &["".into(), " ".into()]));
        assert!(any.matches(VR::LO, &["".into(), "x".into()]));
        let open = Matcher::Ranges(vec![Range {
            from: None,
            to: Some("20200101".into()),
        }]);
        assert!(!open.matches(VR::DA, &["".into()]));
    }
}
