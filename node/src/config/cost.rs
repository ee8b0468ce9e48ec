//! `[cost]`: the price list that `filmroom cost` reckons with.

use filmroom_tiering::cost::{Prices, Stepped};

use super::{Reader, first};

/// No price of S3 is near this; what is above is in a wrong unit.
const MAX_PRICE: f64 = 100_000.0;

impl Reader {
    /// `[cost]`; what is not written is as S3 charges in us-east-1.
    pub(super) fn prices(&mut self) -> Prices {
        let published = Prices::default();
        let own = self.source.sections.get("cost").is_some_and(|keys| !keys.is_empty());
        let source = self.text("cost", "source");
        let source = source.unwrap_or_else(|| match own {
            true => format!("[cost] of the configuration; what it does not say: {}", published.source),
            false => published.source.clone(),
        });
        Prices {
            currency: self.text("cost", "currency").unwrap_or_else(|| published.currency.clone()),
            source,
            standard: self.steps("standard", published.standard),
            frequent: self.steps("frequent", published.frequent),
            infrequent: self.value("cost", "infrequent", price, published.infrequent),
            archive_instant: self.value("cost", "archive_instant", price, published.archive_instant),
            archive: self.value("cost", "archive_access", price, published.archive),
            deep_archive: self.value("cost", "deep_archive_access", price, published.deep_archive),
            monitoring: self.value("cost", "monitoring", price, published.monitoring),
            put: self.value("cost", "put", price, published.put),
            expedited_requests: self.value("cost", "expedited_requests", price, published.expedited_requests),
            expedited: self.value("cost", "expedited", price, published.expedited),
        }
    }

    /// One price for every volume, or three.
    fn steps(&mut self, key: &str, published: Stepped) -> Stepped {
        let origin = self
            .source
            .sections
            .get("cost")
            .and_then(|keys| keys.get(key))
            .map(|s| (s.origin.clone(), first(s)));
        let Some((origin, _)) = origin else { return published };
        let problems = self.problems.len();
        match self.list("cost", key, price).as_slice() {
            [every] => Stepped::flat(*every),
            [first, next, above] => Stepped([*first, *next, *above]),
            // Each that is no price has been named.
            _ if self.problems.len() > problems => published,
            _ => {
                self.problems.push(format!(
                    "{origin}: cost.{key} takes one price for a GB and month, or three: of the first 50 TB, of the next 450 TB, and above"
                ));
                published
            }
        }
    }
}

fn price(text: &str) -> Result<f64, String> {
    let price = text.trim().parse::<f64>().ok().filter(|price| (0.0..=MAX_PRICE).contains(price));
    price.ok_or_else(|| format!("{text:?} is not a price: write a number such as 0.0125"))
}

#[cfg(test)]
mod tests {
    use filmroom_tiering::cost::{Prices, Stepped};

    use crate::config::Config;

    fn prices(text: &str) -> Result<Prices, String> {
        Config::parse(&format!("[cost]\n{text}"), std::iter::empty())
            .map(|config| config.prices)
            .map_err(|problems| problems.join("\n"))
    }

    #[test]
    fn prices_are_those_that_are_cited_unless_the_configuration_has_others() {
        assert_eq!(Config::parse("", std::iter::empty()).unwrap().prices, Prices::default());
        let own = prices("currency = \"EUR\"\nsource = \"our contract\"\nstandard = [0.0245, 0.0235, 0.0225]\nfrequent = 0.02\narchive_access = 0.003\nput = 0\n").unwrap();
        let expected = Prices {
            currency: "EUR".to_owned(),
            source: "our contract".to_owned(),
            standard: Stepped([0.0245, 0.0235, 0.0225]),
            frequent: Stepped::flat(0.02),
            archive: 0.003,
            put: 0.0,
            ..Prices::default()
        };
        assert_eq!(own, expected);
        // Nobody takes somebody's own prices for Amazon's.
        assert!(prices("put = 1\n").unwrap().source.starts_with("[cost] of the configuration"));
    }

    #[test]
    fn what_is_no_price_is_named() {
        for (text, part) in [
            ("put = -1\n", "line 2: cost.put: \"-1\" is not a price"),
            ("infrequent = \"cheap\"\n", "line 2: cost.infrequent: \"cheap\" is not a price"),
            ("monitoring = inf\n", "is not a price"),
            (
                "standard = [1, 2]\n",
                "line 2: cost.standard takes one price for a GB and month, or three",
            ),
            ("standard = [1, \"x\", 3]\n", "line 2: cost.standard: \"x\" is not a price"),
            (
                "deep_archive = 1\n",
                "[cost] has no key deep_archive: did you mean deep_archive_access?",
            ),
        ] {
            let problems = prices(text).unwrap_err();
            assert!(problems.contains(part), "{text}: {problems}");
            assert!(!problems.contains('\n'), "one problem for one fault: {problems}");
        }
    }
}
