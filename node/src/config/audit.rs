//! `[audit]`: where the audit is exported to.

use std::path::PathBuf;
use std::time::Duration;

use super::{Reader, values};
use crate::audit::Settings;

impl Reader {
    /// `[audit]`
    pub(super) fn audit(&mut self) -> Settings {
        let syslog = self.take("audit", "syslog");
        let syslog = syslog.and_then(|setting| self.parsed("audit", "syslog", &setting, str::parse));
        let path = |text: Option<String>| text.map(PathBuf::from);
        let (certificate, key) = (path(self.text("audit", "tls_cert")), path(self.text("audit", "tls_key")));
        let settings = Settings {
            syslog,
            tls_ca: path(self.text("audit", "tls_ca")),
            tls_identity: certificate.clone().zip(key.clone()),
            file: path(self.text("audit", "file")),
            from_now: self.value("audit", "start", start, false),
            max_lag: self.value("audit", "max_lag", values::duration, Duration::from_secs(900)),
            keep: self.value("audit", "keep", keep, None),
        };
        if certificate.is_some() != key.is_some() {
            self.problems
                .push("audit.tls_cert and audit.tls_key go together: write both or none".to_owned());
        }
        if settings
            .syslog
            .as_ref()
            .is_some_and(|syslog| syslog.is_tls() && settings.tls_ca.is_none())
        {
            self.problems
                .push("audit.syslog by TLS needs audit.tls_ca: the certificates that the server's is checked against".to_owned());
        }
        if settings.keep.is_some() && settings.syslog.is_none() && settings.file.is_none() {
            self.problems
                .push("audit.keep removes what was exported: write audit.syslog or audit.file as well".to_owned());
        }
        settings
    }
}

fn start(text: &str) -> Result<bool, String> {
    match text {
        "beginning" => Ok(false),
        "now" => Ok(true),
        _ => Err(format!("{text:?}: write \"beginning\" or \"now\"")),
    }
}

fn keep(text: &str) -> Result<Option<Duration>, String> {
    match text {
        "forever" => Ok(None),
        _ => values::duration(text)
            .map(Some)
            .map_err(|problem| format!("{problem}, or \"forever\"")),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn the_audit_may_go_to_a_server_and_a_file() {
        let text = "[audit]\nsyslog = \"tls://log\"\ntls_ca = \"ca.pem\"\nfile = \"audit.xml\"\nkeep = \"365d\"\n";
        let audit = Config::parse(text, std::iter::empty()).unwrap().audit;
        assert_eq!(audit.syslog.unwrap().to_string(), "tls://log:6514");
        assert_eq!(audit.keep.unwrap().as_secs(), 365 * 86_400);
        assert!(!audit.from_now && audit.tls_identity.is_none());
    }

    #[test]
    fn what_makes_no_sense_together_is_told() {
        for (text, part) in [
            ("syslog = \"log:514\"", "udp://host:514"),
            ("syslog = \"tls://log\"", "audit.tls_ca"),
            ("tls_cert = \"c.pem\"", "audit.tls_key"),
            ("keep = \"1d\"", "audit.syslog or audit.file"),
            ("file = \"a\"\nkeep = \"long\"", "\"forever\""),
            ("start = \"later\"", "\"beginning\""),
        ] {
            let problems = Config::parse(&format!("[audit]\n{text}\n"), std::iter::empty())
                .unwrap_err()
                .join("\n");
            assert!(problems.contains(part), "{text}: {problems}");
        }
    }
}
