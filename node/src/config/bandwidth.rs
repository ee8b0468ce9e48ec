//! `[bandwidth]`: how many bytes a second may go to the cold store and come from it, by the hour.

use filmroom_tiering::bandwidth::{BandwidthSettings, Rate};

use super::{Reader, values};

impl Reader {
    /// The section.
    pub(super) fn bandwidth(&mut self) -> BandwidthSettings {
        BandwidthSettings {
            upload: self.schedule("bandwidth", "upload", Rate::Unlimited, rate),
            download: self.schedule("bandwidth", "download", Rate::Unlimited, rate),
            retrieve: self.schedule("bandwidth", "retrieve", Rate::Unlimited, rate),
        }
    }
}

/// `20MB/s`, `100Mbit/s`, `0`, `unlimited`.
fn rate(text: &str) -> Result<Rate, String> {
    let advice = || format!("{text:?} is no bandwidth: write such as \"20MB/s\", \"100Mbit/s\", \"0\" to pause, or \"unlimited\"");
    match text {
        "unlimited" => return Ok(Rate::Unlimited),
        "0" => return Ok(Rate::Paused),
        _ => {}
    }
    let amount = text.strip_suffix("/s").ok_or_else(advice)?.trim_end();
    let bytes = match amount.strip_suffix("bit") {
        Some(bits) => values::size(&format!("{bits}B")).map(|bits| bits / 8),
        None => values::size(amount),
    };
    match bytes.map_err(|_| advice())? {
        0 => Ok(Rate::Paused),
        bytes if bytes < 1000 => Err(advice()),
        bytes => Ok(Rate::Bytes(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use filmroom_tiering::schedule::Schedule;

    use super::super::Config;
    use super::*;

    #[test]
    fn bandwidth_reads_as_people_write_it() {
        assert_eq!(rate("20MB/s"), Ok(Rate::Bytes(20_000_000)));
        assert_eq!(rate("100Mbit/s"), Ok(Rate::Bytes(12_500_000)));
        assert_eq!(rate("8 MiB/s"), Ok(Rate::Bytes(8 << 20)));
        assert_eq!(
            (rate("0"), rate("0MB/s"), rate("unlimited")),
            (Ok(Rate::Paused), Ok(Rate::Paused), Ok(Rate::Unlimited))
        );
        for bad in ["", "20MB", "fast", "20 MB/min", "1/s", "-1MB/s"] {
            assert!(rate(bad).unwrap_err().contains("write such as"), "{bad}");
        }
    }

    #[test]
    fn limits_hold_where_there_is_a_cold_store_and_a_wrong_one_has_its_line() {
        let parse = |text: &str| Config::parse(text, std::iter::empty());
        let config =
            parse("[cold]\nurl = \"file:///mnt/nas\"\n[bandwidth]\nupload = [\"mon-fri 07:00-19:00 = 20MB/s\", \"otherwise = 200MB/s\"]")
                .unwrap();
        let bandwidth = config.archive.cold.unwrap().bandwidth;
        let rates: Vec<Rate> = bandwidth.upload.values().collect();
        assert_eq!(rates, [Rate::Bytes(20_000_000), Rate::Bytes(200_000_000)]);
        assert_eq!(bandwidth.retrieve, Schedule::always(Rate::Unlimited));
        let problems = parse("[bandwidth]\nupload = \"fast\"").unwrap_err();
        assert!(
            problems.iter().any(|problem| problem.starts_with("line 2: bandwidth.upload")),
            "{problems:?}"
        );
    }
}
