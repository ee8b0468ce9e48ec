//! Passcodes: kept as Argon2id hashes, checked away from what carries images.
//!
//! # Mechanics
//! A check takes some 20 MiB and some tens of milliseconds, on purpose. Two run at once, on threads of their own; [`WAITING`] more may wait. Whoever
//! comes then is told to come again (rejected-transient).
//!
//! # Invariants
//! However many try to log in, no more than that memory and two threads are spent on it; what needs no passcode never waits for it. A check
//! takes as long whether the user is known or not, and compares in constant time.

use std::fmt;
use std::str::FromStr;

use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Argon2, Params};
use tokio::sync::Semaphore;

/// Checks that run at once.
static RUNNING: Semaphore = Semaphore::const_new(2);
/// Checks that run or wait.
static ADMITTED: Semaphore = Semaphore::const_new(WAITING);
/// Checks that run or wait, at most.
const WAITING: usize = 32;
/// A longer passcode is wrong.
const MAX_PASSCODE: usize = 1024;
/// Memory that a hash may ask for, KiB.
const MAX_MEMORY: u32 = 256 * 1024;
/// Passes that a hash may ask for.
const MAX_PASSES: u32 = 16;
/// What is checked when the user is unknown: nobody's hash, with the parameters that [`PasscodeHash::of`] gives.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5IGtub3dzIGl0$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// An Argon2id hash in the notation of the PHC, checked.
#[derive(Clone, PartialEq, Eq)]
pub struct PasscodeHash(String);

impl PasscodeHash {
    /// Hashes a passcode with a salt of its own.
    pub fn of(passcode: &[u8]) -> Result<PasscodeHash, String> {
        if passcode.is_empty() || passcode.len() > MAX_PASSCODE {
            return Err(format!("a passcode has 1 to {MAX_PASSCODE} bytes"));
        }
        let salt = SaltString::generate(&mut OsRng);
        let hash = Argon2::default()
            .hash_password(passcode, &salt)
            .map_err(|error| error.to_string())?;
        Ok(PasscodeHash(hash.to_string()))
    }

    fn matches(&self, passcode: &[u8]) -> bool {
        PasswordHash::new(&self.0).is_ok_and(|hash| Argon2::default().verify_password(passcode, &hash).is_ok())
    }
}

impl FromStr for PasscodeHash {
    type Err = String;

    fn from_str(text: &str) -> Result<PasscodeHash, String> {
        let advice = "is no Argon2id hash: make one with `filmroom user hash`";
        let hash = PasswordHash::new(text).map_err(|_| advice.to_owned())?;
        if hash.algorithm != argon2::ARGON2ID_IDENT || hash.hash.is_none() || hash.salt.is_none() {
            return Err(advice.to_owned());
        }
        let params = Params::try_from(&hash).map_err(|_| advice.to_owned())?;
        if params.m_cost() > MAX_MEMORY || params.t_cost() > MAX_PASSES {
            return Err(format!("asks for more than {MAX_MEMORY} KiB or {MAX_PASSES} passes"));
        }
        Ok(PasscodeHash(text.to_owned()))
    }
}

impl fmt::Display for PasscodeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PasscodeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasscodeHash")
    }
}

/// A passcode that was given, and what it has to match. Without a hash it matches nothing, in the same time.
#[derive(Clone, PartialEq, Eq)]
pub struct Challenge {
    hash: Option<PasscodeHash>,
    passcode: Vec<u8>,
}

/// The answer to a [`Challenge`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The passcode is right
    Right,
    /// It is wrong
    Wrong,
    /// Too many are being checked: nobody looked
    Busy,
}

impl Challenge {
    pub(crate) fn new(hash: Option<PasscodeHash>, passcode: Vec<u8>) -> Challenge {
        Challenge { hash, passcode }
    }

    /// Checks it.
    pub async fn judge(self) -> Verdict {
        let Ok(admitted) = ADMITTED.try_acquire() else {
            return Verdict::Busy;
        };
        let Ok(running) = RUNNING.acquire().await else {
            return Verdict::Busy;
        };
        // The permits go along: who gives up waiting does not stop a check that runs.
        let check = move || {
            let _permits = (admitted, running);
            self.is_met()
        };
        match tokio::task::spawn_blocking(check).await {
            Ok(true) => Verdict::Right,
            Ok(false) => Verdict::Wrong,
            Err(_) => Verdict::Busy,
        }
    }

    fn is_met(&self) -> bool {
        if self.passcode.len() > MAX_PASSCODE {
            return false;
        }
        let nobody = PasscodeHash(NOBODY.to_owned());
        let matches = self.hash.as_ref().unwrap_or(&nobody).matches(&self.passcode);
        matches && self.hash.is_some()
    }
}

impl fmt::Debug for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Challenge")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_matches_its_passcode_and_no_other() {
        let hash = PasscodeHash::of(b"open sesame").unwrap();
        assert_ne!(hash, PasscodeHash::of(b"open sesame").unwrap(), "each has a salt of its own");
        let hash: PasscodeHash = hash.to_string().parse().unwrap();
        for (passcode, right) in [(&b"open sesame"[..], true), (b"open barley", false), (b"", false)] {
            assert_eq!(Challenge::new(Some(hash.clone()), passcode.to_vec()).is_met(), right);
        }
        let long = vec![b'x'; MAX_PASSCODE + 1];
        assert!(!Challenge::new(Some(hash), long).is_met());
        assert!(PasscodeHash::of(b"").is_err());
    }

    #[test]
    fn nobody_is_checked_like_anybody_and_never_met() {
        let nobody: PasscodeHash = NOBODY.parse().unwrap();
        let own = PasscodeHash::of(b"x").unwrap();
        let parameters = |hash: &PasscodeHash| hash.0.split('$').nth(3).map(str::to_owned);
        assert_eq!(parameters(&nobody), parameters(&own));
        assert!(!Challenge::new(None, b"x".to_vec()).is_met());
    }

    #[test]
    fn what_is_no_argon2id_hash_or_asks_for_too_much_is_refused() {
        let hash = PasscodeHash::of(b"x").unwrap().to_string();
        for (text, what) in [
            ("secret".to_owned(), "filmroom user hash"),
            (hash.replace("argon2id", "argon2i"), "filmroom user hash"),
            (hash.rsplit_once('$').unwrap().0.to_owned(), "filmroom user hash"),
            (hash.replace("m=19456", "m=4000000"), "more than"),
            (hash.replace("t=2", "t=1000"), "more than"),
        ] {
            assert!(text.parse::<PasscodeHash>().unwrap_err().contains(what), "{text}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_flood_of_logins_is_told_to_come_again() {
        let hash = PasscodeHash::of(b"right").unwrap();
        let all: Vec<_> = (0..WAITING * 2)
            .map(|_| tokio::spawn(Challenge::new(Some(hash.clone()), b"right".to_vec()).judge()))
            .collect();
        let mut verdicts = Vec::new();
        for one in all {
            verdicts.push(one.await.unwrap());
        }
        assert!(verdicts.contains(&Verdict::Busy), "not all can be admitted at once");
        assert!(verdicts.iter().filter(|verdict| **verdict == Verdict::Right).count() >= WAITING);
        assert!(!verdicts.contains(&Verdict::Wrong));
        assert_eq!(Challenge::new(Some(hash), b"wrong".to_vec()).judge().await, Verdict::Wrong);
    }
}
