//! Wildcard matching (PS3.4 C.2.2.2.4): `*` stands for any characters, `?` for one. There is no escape in DICOM.

/// A text with wildcards, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    /// `?`
    One,
    /// `*`
    Any,
}

impl Glob {
    /// Reads a text in which `*` and `?` are wildcards. Runs of `*` are one.
    pub fn wildcard(text: &str) -> Glob {
        let mut parts: Vec<Part> = Vec::new();
        for c in text.chars() {
            match (c, parts.last_mut()) {
                ('*', Some(Part::Any)) => {}
                ('*', _) => parts.push(Part::Any),
                ('?', _) => parts.push(Part::One),
                (c, Some(Part::Literal(literal))) => literal.push(c),
                (c, _) => parts.push(Part::Literal(c.into())),
            }
        }
        Glob { parts }
    }

    /// A text that stands for itself, whatever its characters.
    pub fn literal(text: &str) -> Glob {
        Glob {
            parts: vec![Part::Literal(text.to_owned())],
        }
    }

    /// Whether it matches everything: only `*`.
    pub fn is_universal(&self) -> bool {
        matches!(self.parts.as_slice(), [Part::Any])
    }

    /// The text, if there is no wildcard in it.
    pub fn as_literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// What every match begins with: the characters before the first wildcard.
    pub fn prefix(&self) -> &str {
        match self.parts.first() {
            Some(Part::Literal(text)) => text,
            _ => "",
        }
    }

    /// Whether it is a prefix and then `*`, so that [`Glob::prefix`] says all.
    pub fn is_prefix(&self) -> bool {
        matches!(self.parts.as_slice(), [Part::Any] | [Part::Literal(_), Part::Any])
    }

    /// Whether a text matches, in time proportional to the product of both lengths at worst.
    pub fn matches(&self, text: &str) -> bool {
        let pattern: Vec<Token> = self.tokens().collect();
        let text: Vec<char> = text.chars().collect();
        let (mut p, mut t) = (0, 0);
        // Where to go on when the last `*` has to take one character more.
        let mut retry: Option<(usize, usize)> = None;
        loop {
            let step = match (pattern.get(p), text.get(t)) {
                (None, None) => return true,
                (Some(Token::Any), _) => {
                    retry = Some((p, t));
                    p += 1;
                    continue;
                }
                (Some(Token::One), Some(_)) => true,
                (Some(Token::Char(wanted)), Some(found)) => wanted == found,
                _ => false,
            };
            if step {
                p += 1;
                t += 1;
                continue;
            }
            match retry {
                Some((star, taken)) if taken < text.len() => {
                    retry = Some((star, taken + 1));
                    p = star + 1;
                    t = taken + 1;
                }
                _ => return false,
            }
        }
    }

    fn tokens(&self) -> impl Iterator<Item = Token> {
        self.parts.iter().flat_map(|part| -> Box<dyn Iterator<Item = Token> + '_> {
            match part {
                Part::Literal(text) => Box::new(text.chars().map(Token::Char)),
                Part::One => Box::new(std::iter::once(Token::One)),
                Part::Any => Box::new(std::iter::once(Token::Any)),
            }
        })
    }

    /// The pattern for SQL's `LIKE … ESCAPE '\'`, as PostgreSQL reads it: by case, `_` one character.
    pub fn to_like(&self) -> String {
        self.render('_', '%', |c, out| {
            if matches!(c, '%' | '_' | '\\') {
                out.push('\\');
            }
            out.push(c);
        })
    }

    /// The pattern for SQLite's `GLOB`, which unlike its `LIKE` goes by case.
    pub fn to_sqlite_glob(&self) -> String {
        self.render('?', '*', |c, out| match c {
            '*' | '?' | '[' => out.extend(['[', c, ']']),
            c => out.push(c),
        })
    }

    fn render(&self, one: char, any: char, literal: impl Fn(char, &mut String)) -> String {
        let mut out = String::new();
        for token in self.tokens() {
            match token {
                Token::One => out.push(one),
                Token::Any => out.push(any),
                Token::Char(c) => literal(c, &mut out),
            }
        }
        out
    }
}

enum Token {
    Char(char),
    One,
    Any,
}

/// The least text that is greater, by code points, than everything that begins with `prefix`: the open end of a range on an index.
/// None where there is no such text.
pub fn after_prefix(prefix: &str) -> Option<String> {
    let mut end: Vec<char> = prefix.chars().collect();
    while let Some(last) = end.pop() {
        // Stepping over the surrogates, which are no characters.
        let next = u32::from(last) + if last == '\u{d7ff}' { 0x801 } else { 1 };
        if let Some(next) = char::from_u32(next) {
            end.push(next);
            return Some(end.into_iter().collect());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn wildcards_stand_for_characters_not_bytes() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("DOE*", "DOE", true),
            ("DOE*", "DO", false),
            ("*DOE", "JOHN DOE", true),
            ("D?E", "DÖE", true),
            ("D?E", "DE", false),
            ("??", "山田", true),
            ("*a*b*c", "xaxbxbc", true),
            ("*a*b*c", "xaxbxb", false),
            ("a*a", "a", false),
            ("a**a", "aa", true),
            ("", "", true),
            ("", "a", false),
            ("?", "", false),
            ("A[b]%_\\", "A[b]%_\\", true),
            ("A[b]%_\\", "Ab", false),
        ] {
            assert_eq!(Glob::wildcard(pattern).matches(text), expected, "{pattern} {text}");
        }
        assert!(Glob::literal("A*").matches("A*"));
        assert!(!Glob::literal("A*").matches("AB"));
    }

    #[test]
    fn what_means_something_in_sql_is_escaped() {
        let glob = Glob::wildcard("50%_[a]\\*?");
        assert_eq!(glob.to_like(), "50\\%\\_[a]\\\\%_");
        assert_eq!(glob.to_sqlite_glob(), "50%_[[]a]\\*?");
        assert_eq!(Glob::literal("*?").to_sqlite_glob(), "[*][?]");
    }

    #[test]
    fn a_hostile_pattern_takes_no_exponential_time() {
        let glob = Glob::wildcard(&"*a".repeat(500));
        let text = format!("{}b", "a".repeat(10_000));
        assert!(!glob.matches(&text));
    }

    #[test]
    fn the_end_of_a_prefix_is_the_next_text() {
        assert_eq!(after_prefix("doe").as_deref(), Some("dof"));
        assert_eq!(after_prefix("a\u{10ffff}").as_deref(), Some("b"));
        assert_eq!(after_prefix("\u{d7ff}").as_deref(), Some("\u{e000}"));
        assert_eq!(after_prefix(""), None);
        assert_eq!(after_prefix("\u{10ffff}"), None);
    }

    proptest! {
        #[test]
        fn a_text_lies_within_the_range_of_its_prefix(prefix in "\\PC{1,4}", rest in "\\PC{0,4}") {
            let text = format!("{prefix}{rest}");
            prop_assert!(text >= prefix);
            prop_assert!(after_prefix(&prefix).is_none_or(|end| text < end));
        }

        #[test]
        fn matching_is_what_trying_everything_finds(pattern in "[ab*?]{0,6}", text in "[ab]{0,6}") {
            fn naive(p: &[u8], t: &[u8]) -> bool {
                match (p.split_first(), t.split_first()) {
                    (None, None) => true,
                    (Some((b'*', rest)), None) => naive(rest, t),
                    (Some((b'*', rest)), Some((_, tail))) => naive(rest, t) || naive(p, tail),
                    (Some((b'?', rest)), Some((_, tail))) => naive(rest, tail),
                    (Some((c, rest)), Some((d, tail))) => c == d && naive(rest, tail),
                    _ => false,
                }
            }
            prop_assert_eq!(Glob::wildcard(&pattern).matches(&text), naive(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
