//! What a key matches (PS3.4 C.2.2.2), decided on values in memory. The catalogue's SQL has to come to the same answers.

use dicom_core::{Tag, VR};

use super::MatchKey;
use super::fold::{fold_name, words};
use super::glob::Glob;
use super::range::{MomentRange, Range, normal};
use crate::dataset::{DataSet, Element, Value};

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
    /// Combined date and time range matching, where it was negotiated (PS3.4 C.2.2.2.5): of a date and the time that goes with it.
    Moments {
        /// The attribute with the time
        time: Tag,
        /// Both ends
        range: MomentRange,
    },
    /// Single value matching of a binary number or a tag (AT, FD, FL, SL, SS, SV, UL, US, UV), little endian. One of these.
    Binary(Vec<Vec<u8>>),
    /// Sequence matching (PS3.4 C.2.2.2.6): some item meets all of these.
    Items(Vec<MatchKey>),
    /// Another condition, on a private attribute in whatever block its creator reserved (PS3.5 7.8.1).
    Private {
        /// Who reserved the block
        creator: String,
        /// The condition
        matcher: Box<Matcher>,
    },
}

/// A folded person name key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamePattern {
    /// A key of one component group in another script than Latin: any group of the name may be it, in any of these spellings.
    AnyGroup(Vec<Glob>),
    /// Component groups by their place, each in any of some spellings; a group without one may be anything. A key of one group
    /// in Latin letters is for the first, alphabetic group, which alone an index finds.
    Groups(Vec<Vec<Glob>>),
    /// Fuzzy semantic matching, where it was negotiated (PS3.4 C.2.2.2.1.1): each of these in the name's [`words`].
    Words(Vec<Glob>),
}

impl MatchKey {
    /// Whether the attributes of an entity, or of an item, meet the key.
    pub fn is_met_by(&self, attributes: &DataSet) -> bool {
        self.matcher.is_met_by(self.tag, self.vr, attributes)
    }

    /// Whether [`MatchKey::is_met_by`] looks at an attribute.
    #[cfg(feature = "database")]
    pub(crate) fn reads(&self, tag: Tag) -> bool {
        match &self.matcher {
            Matcher::Moments { time, .. } => tag == self.tag || tag == *time,
            Matcher::Private { .. } => tag.group() == self.tag.group(),
            _ => tag == self.tag,
        }
    }
}

impl Matcher {
    fn is_met_by(&self, tag: Tag, vr: VR, attributes: &DataSet) -> bool {
        match self {
            Matcher::Private { creator, matcher } => attributes
                .private(tag, creator)
                .is_some_and(|place| matcher.is_met_by(place, vr, attributes)),
            Matcher::Items(keys) => attributes.items(tag).iter().any(|item| keys.iter().all(|key| key.is_met_by(item))),
            Matcher::Moments { time, range } => {
                let first = |vr, tag| attributes.texts(tag).first().and_then(|value| normal(vr, trim(value)));
                first(VR::DA, tag).is_some_and(|date| range.holds(&date, first(VR::TM, *time).as_deref()))
            }
            Matcher::Binary(values) => match attributes.get(tag).map(|element| &element.value) {
                Some(Value::Bytes(bytes)) => values
                    .iter()
                    .any(|wanted| bytes.chunks_exact(wanted.len().max(1)).any(|value| value == wanted)),
                _ => false,
            },
            Matcher::Text(_) | Matcher::Number(_) | Matcher::Uids(_) | Matcher::Ranges(_) | Matcher::Names(_) => {
                match attributes.get(tag).map(|element| &element.value) {
                    Some(Value::Text(values)) => self.matches(vr, values),
                    // A private attribute that came in Implicit VR.
                    Some(Value::Bytes(_)) => self.matches(vr, &attributes.get(tag).map(texts).unwrap_or_default()),
                    _ => false,
                }
            }
        }
    }

    /// Whether the values of a text attribute match. Conditions on something else match no text.
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
            Matcher::Moments { .. } | Matcher::Binary(_) | Matcher::Items(_) | Matcher::Private { .. } => false,
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

    /// Reads a key for fuzzy semantic matching: every word of it is the beginning of some word of the name, wherever it stands. None
    /// if it is universal.
    pub(super) fn fuzzy(key: &str) -> Option<NamePattern> {
        let folded = words(&fold_name(key));
        let wanted = folded.split_whitespace().filter(|word| !word.trim_matches('*').is_empty());
        let globs: Vec<Glob> = wanted.map(|word| Glob::wildcard(&format!("* {word}*"))).collect();
        (!globs.is_empty()).then_some(NamePattern::Words(globs))
    }

    /// What every name that matches begins with.
    #[cfg(feature = "database")]
    pub(crate) fn prefix(&self) -> &str {
        match self {
            // The last spelling is the shortest, and all begin as it does.
            NamePattern::Groups(groups) => groups.first().and_then(|globs| globs.last()).map(Glob::prefix).unwrap_or_default(),
            NamePattern::AnyGroup(_) | NamePattern::Words(_) => "",
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
            NamePattern::Words(globs) => {
                let words = words(folded);
                globs.iter().all(|glob| glob.matches(&words))
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

/// The values of an element as text, without NUL: also of one that came as UN.
pub(super) fn texts(element: &Element) -> Vec<String> {
    let clean = |text: &str| text.replace('\0', "");
    match &element.value {
        Value::Text(values) => values.iter().map(|value| clean(value)).collect(),
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).split('\\').map(clean).collect(),
        Value::Items(_) | Value::Bulk { .. } => Vec::new(),
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

    /// PS3.4 C.2.2.2.1.1
    #[test]
    fn fuzzy_names_match_by_the_beginnings_of_words_in_any_order() {
        for (key, stored, expected) in [
            ("jane doe", "Doe^Jane^^Dr", true),
            ("DOE^JA", "Doe^Jane", true),
            ("Doe, Jane", "DOE^JANE", true),
            ("ane", "Doe^Jane", false),
            ("*ane", "Doe^Jane", true),
            ("jane smith", "Doe^Jane", false),
            ("Mueller", "Müller^Jürgen", true),
            ("muller", "Mueller^Juergen", true),
            ("juerg mü", "Müller-Lüdenscheid^Jürgen", true),
            ("luedenscheid", "Müller-Lüdenscheid^Jürgen", true),
            ("太郎", "Yamada^Tarou=山田^太郎", true),
            ("yamada 山", "Yamada^Tarou=山田^太郎", true),
            ("do?", "Doe^Jane", true),
            ("d*e", "Doe^Jane", true),
            ("x", "", false),
            ("*", "", true),
        ] {
            let found = NamePattern::fuzzy(key).is_none_or(|pattern| pattern.matches(&fold_name(stored)));
            assert_eq!(found, expected, "{key} {stored}");
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
