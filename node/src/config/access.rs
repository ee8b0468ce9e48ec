//! Who may do what: where an AE calls from, where it may send to, and which users there are.

use filmroom_index::model::AeTitle;
use filmroom_scp::access::{IdentityPolicy, Network, User};
use filmroom_scp::settings::{Peer, Settings as DicomSettings};

use super::source::{Section, Setting};
use super::{Reader, ae_title};

/// Longest name of a user, in characters.
const MAX_NAME: usize = 64;

impl Reader {
    /// `ae.from`
    pub(super) fn networks(&mut self, entry: &mut Section) -> Vec<Network> {
        self.list_of_ae(entry, "from", str::parse).unwrap_or_default()
    }

    /// `ae.destinations`; an empty list is a list.
    pub(super) fn destinations(&mut self, entry: &mut Section) -> Option<Vec<AeTitle>> {
        self.list_of_ae(entry, "destinations", ae_title)
    }

    /// `ae.users`
    pub(super) fn users_of_ae(&mut self, entry: &mut Section) -> Vec<String> {
        self.list_of_ae(entry, "users", user_name).unwrap_or_default()
    }

    fn list_of_ae<T>(&mut self, entry: &mut Section, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<Vec<T>> {
        let setting = entry.remove(key)?;
        let mut list = Vec::new();
        for value in &setting.values {
            let one = Setting {
                values: vec![value.clone()],
                origin: setting.origin.clone(),
            };
            list.extend(self.parsed("ae", key, &one, &parse));
        }
        Some(list)
    }

    /// `[[user]]`
    pub(super) fn users(&mut self) -> Vec<User> {
        let entries = std::mem::take(&mut self.source.users);
        let mut users: Vec<User> = Vec::new();
        for (line, mut entry) in entries {
            let name = entry
                .remove("name")
                .and_then(|setting| self.parsed("user", "name", &setting, user_name));
            let Some(name) = name else {
                self.problems.push(format!("line {line}: this [[user]] needs a name"));
                continue;
            };
            if users.iter().any(|user| user.name == name) {
                self.problems.push(format!("line {line}: {name} is listed twice"));
            }
            let passcode = entry.remove("passcode_hash");
            users.push(User {
                name,
                passcode: passcode.and_then(|setting| self.parsed("user", "passcode_hash", &setting, str::parse)),
            });
        }
        users
    }

    /// What the AEs' lists name has to be there.
    pub(super) fn check_access(&mut self, settings: &DicomSettings) {
        for peer in &settings.peers {
            for destination in peer.destinations.iter().flatten() {
                if settings.peer(destination).is_none_or(|listed| listed.address.is_none()) {
                    self.problems.push(format!(
                        "{}: ae.destinations: {destination} is not listed as an [[ae]] with an address",
                        peer.title
                    ));
                }
            }
            self.check_users(peer, settings);
        }
        if settings.identity == IdentityPolicy::Required && settings.users.is_empty() {
            self.problems
                .push("dicom.user_identity = \"required\" without a [[user]]: nobody could ever associate".to_owned());
        }
    }

    fn check_users(&mut self, peer: &Peer, settings: &DicomSettings) {
        for name in &peer.users {
            if !settings.users.iter().any(|user| user.name == *name) {
                self.problems
                    .push(format!("{}: ae.users: {name} is not listed as a [[user]]", peer.title));
            }
        }
    }
}

/// `dicom.user_identity`
pub(super) fn identity_policy(text: &str) -> Result<IdentityPolicy, String> {
    match text {
        "off" => Ok(IdentityPolicy::Off),
        "optional" => Ok(IdentityPolicy::Optional),
        "required" => Ok(IdentityPolicy::Required),
        _ => Err(format!("{text:?}: write \"off\", \"optional\" or \"required\"")),
    }
}

fn user_name(text: &str) -> Result<String, String> {
    let name = text.trim();
    match name.chars().count() {
        1..=MAX_NAME if !name.chars().any(char::is_control) => Ok(name.to_owned()),
        _ => Err(format!("{text:?} is no name of a user: 1 to {MAX_NAME} characters")),
    }
}

#[cfg(test)]
mod tests {
    use filmroom_scp::access::passcode::PasscodeHash;

    use super::*;
    use crate::config::Config;

    fn problems(text: &str) -> String {
        Config::parse(text, std::iter::empty()).map(|_| ()).unwrap_err().join("\n")
    }

    #[test]
    fn an_ae_may_be_bound_to_networks_destinations_and_users() {
        let hash = PasscodeHash::of(b"x").unwrap();
        let text = format!(
            "[dicom]\nuser_identity = \"optional\"\n[[user]]\nname = \"alice\"\npasscode_hash = \"{hash}\"\n[[ae]]\ntitle = \"CONSOLE\"\n\
             from = [\"10.0.0.0/8\", \"192.0.2.5\"]\ndestinations = [\"VIEWER\"]\nusers = [\"alice\"]\n\
             [[ae]]\ntitle = \"VIEWER\"\naddress = \"10.0.0.5:104\"\ndestinations = []\n"
        );
        let dicom = Config::parse(&text, std::iter::empty()).unwrap().dicom;
        let (console, viewer) = (&dicom.peers[0], &dicom.peers[1]);
        assert!(console.may_call_from(Some("192.0.2.5".parse().unwrap())));
        assert!(!console.may_call_from(Some("192.0.2.6".parse().unwrap())));
        assert!(dicom.may_send(&console.title, &viewer.title) && !dicom.may_send(&viewer.title, &viewer.title));
        assert_eq!(dicom.identity, IdentityPolicy::Optional);
        assert!(dicom.users[0].passcode.is_some());
    }

    #[test]
    fn what_a_list_names_has_to_be_there() {
        let text = "[dicom]\nuser_identity = \"required\"\n[[ae]]\ntitle = \"A\"\nfrom = [\"10.0.0.1/8\"]\ndestinations = [\"B\"]\nusers = [\"eve\"]\n";
        let problems = problems(text);
        for part in [
            "line 5: ae.from",
            "write \"10.0.0.0/8\"",
            "A: ae.destinations: B",
            "A: ae.users: eve",
            "without a [[user]]",
        ] {
            assert!(problems.contains(part), "{part} in {problems}");
        }
    }

    #[test]
    fn a_passcode_in_clear_is_refused() {
        let problems = problems("[[user]]\nname = \"alice\"\npasscode_hash = \"secret\"\n[[user]]\nname = \"alice\"\n");
        assert!(
            problems.contains("line 3: user.passcode_hash") && problems.contains("filmroom user hash"),
            "{problems}"
        );
        assert!(problems.contains("line 4: alice is listed twice"), "{problems}");
    }
}
