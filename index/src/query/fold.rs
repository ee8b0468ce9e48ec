//! Person names as they are compared: without case, accents and insignificant delimiters (PS3.4 C.2.2.2.1, which leaves this to
//! the SCP).
//!
//! Ingest writes the folded form into the catalogue's name columns and a query folds its key the same way, so that an ordinary
//! index answers both `MÜLLER^JÜRGEN` and `muller^j*`. Folding is idempotent, keeps `*` and `?` where they stand, and never makes
//! a delimiter or a wildcard out of another character.

use unicode_normalization::UnicodeNormalization;

/// Longest folded name, in characters: three component groups of 64 characters (PS3.5 6.2) and room for those who exceed them.
/// What is beyond takes no part in matching.
pub const MAX_NAME: usize = 324;

/// Folds a person name, of an object or of a query key.
///
/// Component groups stay apart by `=` and components by `^`; blanks around a component, trailing empty components and trailing
/// empty groups are dropped, as PS3.5 6.2.1 calls them insignificant; so is what stands after the third group.
pub fn fold_name(name: &str) -> String {
    let mut folded = String::new();
    for (index, group) in name.split('=').take(3).enumerate() {
        if index > 0 {
            folded.push('=');
        }
        for (index, component) in group.split('^').enumerate() {
            if index > 0 {
                folded.push('^');
            }
            fold_component(component, &mut folded);
        }
        folded.truncate(folded.trim_end_matches('^').len());
    }
    folded.truncate(folded.trim_end_matches('=').len());
    if let Some((end, _)) = folded.char_indices().nth(MAX_NAME) {
        folded.truncate(end);
        folded.truncate(folded.trim_end_matches(['^', '=', ' ']).len());
    }
    folded
}

/// Folds a text that is no name, such as a description or a pattern for one: lower case, without accents, runs of blanks made one.
pub fn fold_text(text: &str) -> String {
    let mut folded = String::new();
    fold_component(text, &mut folded);
    folded
}

/// A folded name, or key, as words for fuzzy matching: each after a blank, whatever the delimiters were, with the spellings `ae`, `oe` and
/// `ue` as the letter alone, which is what folding makes of an umlaut. The catalogue's SQL does the same, replacement by replacement.
pub fn words(folded: &str) -> String {
    let mut words = format!(" {folded}");
    for (from, to) in SPELLINGS {
        words = words.replace(from, to);
    }
    words
}

/// What [`words`] replaces, in this order.
pub(crate) const SPELLINGS: [(&str, &str); 8] = [
    ("^", " "),
    ("=", " "),
    ("-", " "),
    (",", " "),
    (".", " "),
    ("ae", "a"),
    ("oe", "o"),
    ("ue", "u"),
];

/// Appends one component: lower case, compatibility characters unified, accents dropped, runs of blanks made one.
fn fold_component(component: &str, folded: &mut String) {
    let letters = component
        .chars()
        .flat_map(decompose)
        .filter(|c| !is_accent(*c))
        .flat_map(char::to_lowercase)
        .flat_map(decompose)
        .filter(|c| !is_accent(*c));
    // Composed again, because `?` stands for one character: a Hangul syllable is one, not three.
    let mut blank = false;
    let mut started = false;
    for c in letters.nfc() {
        if c.is_whitespace() || c.is_control() {
            blank = started;
            continue;
        }
        if blank {
            folded.push(' ');
            blank = false;
        }
        started = true;
        match spelling(c) {
            Some(spelt) => folded.push_str(spelt),
            None => folded.push(c),
        }
    }
}

/// The compatibility decomposition of a character, unless it would become one of the characters that mean something in a name
/// or a key (a fullwidth equals sign is no delimiter).
fn decompose(c: char) -> impl Iterator<Item = char> {
    let means = |d: char| matches!(d, '^' | '=' | '*' | '?' | '\\');
    let keep = !c.is_ascii() && std::iter::once(c).nfkd().any(means);
    let kept = keep.then_some(c).into_iter();
    let decomposed = (!keep).then(|| std::iter::once(c).nfkd()).into_iter().flatten();
    kept.chain(decomposed)
}

/// Marks that are accents or optional vowel points. Marks that make another letter or syllable (kana voicing, Indic vowel
/// signs) stay.
fn is_accent(c: char) -> bool {
    matches!(c,
        '\u{0300}'..='\u{036f}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}'
        | '\u{fe20}'..='\u{fe2f}' | '\u{0591}'..='\u{05bd}' | '\u{05bf}' | '\u{05c1}'..='\u{05c2}' | '\u{05c4}'..='\u{05c5}'
        | '\u{05c7}' | '\u{064b}'..='\u{065f}' | '\u{0670}')
}

/// Letters without a decomposition that are commonly written with others.
fn spelling(c: char) -> Option<&'static str> {
    Some(match c {
        'ß' => "ss",
        'æ' => "ae",
        'œ' => "oe",
        'ø' => "o",
        'ð' | 'đ' => "d",
        'þ' => "th",
        'ł' => "l",
        'ħ' => "h",
        'ŧ' => "t",
        'ŋ' => "n",
        'ı' => "i",
        'ĸ' => "k",
        'ς' => "σ",
        // Typographic apostrophes and hyphens for the ASCII ones.
        '\u{2018}' | '\u{2019}' | '\u{02bc}' => "'",
        '\u{2010}'..='\u{2015}' => "-",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn case_accents_and_insignificant_delimiters_do_not_count() {
        for (name, folded) in [
            ("MÜLLER^Jürgen", "muller^jurgen"),
            ("Mu\u{308}ller^J", "muller^j"),
            ("Doe^John^^^", "doe^john"),
            (" Doe ^ John  Q ^^Dr", "doe^john q^^dr"),
            ("Straße^Ørjan", "strasse^orjan"),
            ("ŁUKASZ^Đorđe", "lukasz^dorde"),
            ("İstanbul", "istanbul"),
            ("ΣΊΣΥΦΟΣ", "σισυφοσ"),
            ("Yamada^Tarou=山田^太郎=やまだ^たろう", "yamada^tarou=山田^太郎=やまだ^たろう"),
            ("ﾔﾏﾀﾞ", "ヤマダ"),
            ("Hong^Gildong=洪^吉洞=홍^길동", "hong^gildong=洪^吉洞=홍^길동"),
            ("=山田^太郎", "=山田^太郎"),
            ("a=b=c=d=e", "a=b=c"),
            ("Doe^J*", "doe^j*"),
            ("M?ller", "m?ller"),
            ("A＝B＊", "a＝b＊"),
            ("O’Neil", "o'neil"),
            ("a\0b\nc", "a b c"),
            ("^^==", ""),
            ("", ""),
        ] {
            assert_eq!(fold_name(name), folded, "{name:?}");
        }
    }

    #[test]
    fn a_folded_name_has_a_longest_length() {
        assert_eq!(fold_name(&"Ü".repeat(100_000)).chars().count(), MAX_NAME);
        assert_eq!(fold_name(&format!("{}^^x", "a".repeat(MAX_NAME - 1))).chars().count(), MAX_NAME - 1);
    }

    proptest! {
        #[test]
        fn folding_twice_is_folding_once(name in "\\PC{0,80}") {
            let folded = fold_name(&name);
            prop_assert_eq!(fold_name(&folded), folded);
        }

        #[test]
        fn folding_makes_no_delimiter_and_no_wildcard(name in "\\PC{0,80}") {
            let folded = fold_name(&name);
            for c in ['^', '=', '*', '?', '\\'] {
                prop_assert!(folded.matches(c).count() <= name.matches(c).count());
            }
        }
    }
}
