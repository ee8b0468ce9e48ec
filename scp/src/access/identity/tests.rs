//! The table of the module, case by case (PS3.7 D.3.3.7).

use filmroom_index::model::AeTitle;

use super::*;
use crate::access::passcode::PasscodeHash;

fn settings(policy: IdentityPolicy) -> Settings {
    let user = |name: &str, passcode: Option<&str>| User {
        name: name.to_owned(),
        passcode: passcode.map(|passcode| PasscodeHash::of(passcode.as_bytes()).unwrap()),
    };
    Settings {
        identity: policy,
        users: vec![user("alice", Some("wonder")), user("bob", None), user("Jörg", None)],
        ..Settings::new(AeTitle::parse("FILMROOM").unwrap())
    }
}

fn offer(kind: UserIdentityType, primary: &[u8], secondary: &[u8]) -> Vec<UserVariableItem> {
    let identity = UserIdentity::new(true, kind, primary.to_vec(), secondary.to_vec());
    vec![UserVariableItem::UserIdentityItem(identity)]
}

/// Who is accepted in the end, `-` for nobody.
async fn accepted(settings: &Settings, peer: Option<&Peer>, items: &[UserVariableItem]) -> Result<String, IdentityError> {
    use crate::access::passcode::Verdict;
    let identified = identify(settings, peer, items)?;
    let answered = identified.answer.is_some();
    if let Some(challenge) = identified.challenge
        && challenge.judge().await != Verdict::Right
    {
        return Err(IdentityError::NotRecognized);
    }
    // A positive response tells that there is a user; without one there is none to tell of.
    assert_eq!(answered, identified.user.is_some());
    Ok(identified.user.unwrap_or_else(|| "-".to_owned()))
}

#[tokio::test]
async fn what_is_offered_is_judged_by_the_policy() {
    use IdentityError::{Missing, NotRecognized, Unsupported};
    use UserIdentityType::{Jwt, KerberosServiceTicket, SamlAssertion, Username, UsernamePassword};
    let nobody = || Ok("-".to_owned());
    let user = |name: &str| Ok(name.to_owned());
    let cases = [
        (vec![], nobody(), Err(Missing)),
        (offer(Username, b"bob", b""), user("bob"), user("bob")),
        (offer(Username, b"bob\0", b""), user("bob"), user("bob")),
        (offer(Username, "Jörg".as_bytes(), b""), user("Jörg"), user("Jörg")),
        (offer(Username, b"Bob", b""), nobody(), Err(NotRecognized)),
        (offer(Username, b"alice", b""), nobody(), Err(NotRecognized)),
        (offer(Username, b"mallory", b""), nobody(), Err(NotRecognized)),
        (offer(Username, b"\xff\xfe", b""), nobody(), Err(NotRecognized)),
        (offer(UsernamePassword, b"alice", b"wonder"), user("alice"), user("alice")),
        (offer(UsernamePassword, b"alice", b"Wonder"), Err(NotRecognized), Err(NotRecognized)),
        (offer(UsernamePassword, b"alice", b""), Err(NotRecognized), Err(NotRecognized)),
        // Bob has no passcode: whatever is given for one is not his.
        (offer(UsernamePassword, b"bob", b""), Err(NotRecognized), Err(NotRecognized)),
        (
            offer(UsernamePassword, b"mallory", b"wonder"),
            Err(NotRecognized),
            Err(NotRecognized),
        ),
        (offer(KerberosServiceTicket, b"ticket", b""), nobody(), Err(Unsupported)),
        (offer(SamlAssertion, b"<saml/>", b""), nobody(), Err(Unsupported)),
        (offer(Jwt, b"a.b.c", b""), nobody(), Err(Unsupported)),
    ];
    for (items, optional, required) in cases {
        let what = format!("{:?}", claimed(&items));
        assert_eq!(
            accepted(&settings(IdentityPolicy::Off), None, &items).await,
            nobody(),
            "off, {what}"
        );
        assert_eq!(
            accepted(&settings(IdentityPolicy::Optional), None, &items).await,
            optional,
            "optional, {what}"
        );
        assert_eq!(
            accepted(&settings(IdentityPolicy::Required), None, &items).await,
            required,
            "required, {what}"
        );
    }
}

#[tokio::test]
async fn an_ae_with_users_requires_one_of_them_whatever_the_policy() {
    let peer = Peer {
        users: vec!["alice".to_owned()],
        ..Peer::new(AeTitle::parse("CONSOLE").unwrap())
    };
    for policy in [IdentityPolicy::Off, IdentityPolicy::Optional, IdentityPolicy::Required] {
        let settings = settings(policy);
        let alice = offer(UserIdentityType::UsernamePassword, b"alice", b"wonder");
        assert_eq!(accepted(&settings, Some(&peer), &alice).await, Ok("alice".to_owned()));
        let bob = offer(UserIdentityType::Username, b"bob", b"");
        assert_eq!(accepted(&settings, Some(&peer), &bob).await, Err(IdentityError::NotOfThisAe));
        assert_eq!(accepted(&settings, Some(&peer), &[]).await, Err(IdentityError::Missing));
    }
}

/// The AE of another user tells as little of a name that is listed, and as late, as of one that is not.
#[tokio::test]
async fn a_passcode_at_the_ae_of_others_is_checked_like_that_of_nobody() {
    let peer = Peer {
        users: vec!["bob".to_owned()],
        ..Peer::new(AeTitle::parse("CONSOLE").unwrap())
    };
    let settings = settings(IdentityPolicy::Optional);
    for passcode in [b"wonder", b"Wonder"] {
        let offered = |name: &[u8]| offer(UserIdentityType::UsernamePassword, name, passcode);
        let known = identify(&settings, Some(&peer), &offered(b"alice"));
        assert_eq!(known, identify(&settings, Some(&peer), &offered(b"mallory")));
        assert!(known.unwrap().challenge.is_some());
        assert_eq!(
            accepted(&settings, Some(&peer), &offered(b"alice")).await,
            Err(IdentityError::NotRecognized)
        );
    }
}

#[test]
fn a_positive_response_is_given_when_it_was_asked_for_and_is_empty() {
    let settings = settings(IdentityPolicy::Optional);
    for asked in [true, false] {
        let identity = UserIdentity::new(asked, UserIdentityType::Username, b"bob".to_vec(), Vec::new());
        let identified = identify(&settings, None, &[UserVariableItem::UserIdentityItem(identity)]).unwrap();
        let expected = asked.then(|| UserVariableItem::Unknown(0x59, vec![0, 0]));
        assert_eq!(identified.answer, expected);
    }
}

#[test]
fn a_name_for_the_log_is_bounded_and_printable() {
    let hostile = format!("eve\n\u{1b}[2J{}", "x".repeat(500));
    let name = claimed(&offer(UserIdentityType::Username, hostile.as_bytes(), b"")).unwrap();
    assert!(name.starts_with("eve??[2J"));
    assert_eq!(name.chars().count(), MAX_NAME);
    assert_eq!(claimed(&offer(UserIdentityType::Jwt, b"secret", b"")), None, "a token is a secret");
}
