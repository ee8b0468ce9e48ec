//! Humane values: durations ("90d", "15m"), sizes ("200MB"), parts of a disk ("85%"). Each parser's error says what to write instead.

use std::time::Duration;

/// A duration: a whole number and `ms`, `s`, `m`, `h`, `d`, `w` or `y` (365 days).
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let advice = || format!("{text:?} is not a duration: write a number and a unit, such as \"5s\", \"15m\", \"1h\" or \"90d\"");
    let (number, unit) = split_unit(text);
    let number: u64 = number.parse().map_err(|_| advice())?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 604_800_000,
        "y" => 31_536_000_000,
        _ => return Err(advice()),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(advice)
}

/// A number of bytes: a whole number and nothing, `kB`, `MB`, `GB`, `TB` (powers of 1000) or `KiB`, `MiB`, `GiB`, `TiB` (of 1024).
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let advice = || format!("{text:?} is not a size: write a number and a unit, such as \"200MB\", \"50GB\" or \"8GiB\"");
    let (number, unit) = split_unit(text);
    let number: u64 = number.parse().map_err(|_| advice())?;
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return Err(advice()),
    };
    number.checked_mul(factor).ok_or_else(advice)
}

/// A part of a disk in percent, as 0 to 1.
pub(crate) fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim().strip_suffix('%').and_then(|n| n.trim().parse::<f64>().ok());
    match number {
        Some(number) if number > 0.0 && number <= 100.0 => Ok(number / 100.0),
        _ => Err(format!("{text:?} is not a part of a disk: write a percentage, such as \"85%\"")),
    }
}

/// `true` or `false`.
pub(crate) fn truth(text: &str) -> Result<bool, String> {
    text.trim().parse().map_err(|_| format!("{text:?} is neither true nor false"))
}

/// A whole number within bounds.
pub(crate) fn number(text: &str, least: u64, most: u64) -> Result<u64, String> {
    let number = text
        .trim()
        .replace('_', "")
        .parse::<u64>()
        .ok()
        .filter(|n| (least..=most).contains(n));
    number.ok_or_else(|| format!("{text:?} is not a whole number from {least} to {most}"))
}

fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_read_as_people_write_them() {
        assert_eq!(duration("90d"), Ok(Duration::from_secs(90 * 86_400)));
        assert_eq!(duration(" 15 m "), Ok(Duration::from_secs(900)));
        assert_eq!(size("200MB"), Ok(200_000_000));
        assert_eq!(size("8GiB"), Ok(8 << 30));
        assert_eq!(percent("85%"), Ok(0.85));
    }

    #[test]
    fn what_is_none_is_refused_with_advice() {
        for bad in ["", "90", "d", "-1d", "90 years", "99999999999999999999d"] {
            assert!(duration(bad).unwrap_err().contains("write"), "{bad}");
        }
        for bad in ["", "MB", "1.5GB", "20 elephants"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        for bad in ["85", "0%", "101%", "x%"] {
            assert!(percent(bad).is_err(), "{bad}");
        }
    }
}
