//! `filmroom conformance`: writes the tables of the conformance statement from the code, or says that they have drifted from it.

use std::path::Path;

use anyhow::{Context, bail};
use filmroom_scp::conformance::tables;

/// Brings the generated tables of a statement up to date; with `check` only says whether they are.
pub(crate) fn run(statement: &Path, check: bool) -> anyhow::Result<()> {
    let shown = statement.display();
    let text = std::fs::read_to_string(statement).with_context(|| shown.to_string())?;
    let mut current = text.clone();
    for (name, table) in tables() {
        current = replace(&current, name, &table).with_context(|| format!("{shown} has no place for the table of {name}"))?;
    }
    match (current == text, check) {
        (true, _) => Ok(()),
        (false, true) => bail!("{shown} does not say what the code does: run `filmroom conformance {shown}`"),
        (false, false) => std::fs::write(statement, current).with_context(|| shown.to_string()),
    }
}

/// The text with a new table between the two comments that bear its name; none if they are not there.
fn replace(text: &str, name: &str, table: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- begin {name} -->\n"), format!("<!-- end {name} -->"));
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}{table}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_put_between_its_comments() {
        let text = "a\n<!-- begin x y -->\nold\n<!-- end x y -->\nb";
        assert_eq!(
            replace(text, "x y", "new\n").unwrap(),
            "a\n<!-- begin x y -->\nnew\n<!-- end x y -->\nb"
        );
        assert_eq!(replace(text, "z", "new\n"), None);
    }
}
