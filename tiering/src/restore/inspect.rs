//! Whether the cold store still has a pack as it was put: a HEAD, which does not touch the archive clock.
//!
//! # Invariants
//! - What is found lost or altered is on record before anything else is done, and off the record as soon as it is found sound: size and checksum, where the
//!   store keeps one.

use filmroom_index::catalogue::{PackKey, Packed};

use super::{pack_state, used_since};
use crate::archive::Inner;
use crate::cold::{ColdError, ColdStore, Head};

/// A pack in the cold store, and what was verified of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Verified<'a> {
    pub(crate) pack: PackKey,
    pub(crate) key: &'a str,
    pub(crate) length: u64,
    pub(crate) crc64: Option<u64>,
    /// On record as lost or altered
    pub(crate) damaged: bool,
}

impl<'a> From<&'a Packed> for Verified<'a> {
    fn from(packed: &'a Packed) -> Verified<'a> {
        Verified {
            pack: packed.pack,
            key: &packed.key,
            length: packed.length,
            crc64: packed.crc64,
            damaged: packed.damaged,
        }
    }
}

impl Inner {
    /// Asks the cold store for a pack and puts on record what it says. Fails with [`ColdError::NotFound`] or [`ColdError::Differs`] where it is damaged.
    pub(crate) async fn inspect(&self, cold: &ColdStore, verified: Verified<'_>) -> Result<Head, ColdError> {
        let adopted = self.adopted_as(verified.key).await?;
        let head = cold.head(verified.key).await;
        self.cold_answered(head.as_ref().err());
        let key = verified.key.to_owned();
        let found = match head? {
            None => Err(ColdError::NotFound { key }),
            Some(head) => match difference(&head, verified.length, verified.crc64).or_else(|| overwritten(&head, adopted.as_deref())) {
                Some(what) => Err(ColdError::Differs { key, what }),
                None => Ok(head),
            },
        };
        match &found {
            // It was replaced by another pack, and erased, while it was looked at.
            Err(_) if !self.is_needed(verified).await => {}
            Err(error) => self.damaged(verified.pack, verified.key, &error.to_string()).await,
            Ok(head) => {
                // Without a checksum a size says little of what was found altered before.
                if verified.damaged && (head.crc64.is_some() || verified.crc64.is_none()) {
                    self.sound(verified).await;
                }
                let state = pack_state(head.archived);
                let used_since = used_since(state, self.cutoffs());
                let seen = self.catalogue.pack_seen(verified.pack, state, used_since, self.clock.now()).await;
                if let Err(error) = seen {
                    tracing::warn!(key = verified.key, %error, "the state of a pack could not be recorded");
                }
            }
        }
        found
    }

    /// Of an adopted object: what the store called its bytes then. Its length alone says little: nobody else keeps its bytes as they were.
    async fn adopted_as(&self, key: &str) -> Result<Option<String>, ColdError> {
        if !key.starts_with('/') {
            return Ok(None);
        }
        let known = self.catalogue.known_foreign(&[key]).await;
        let known = known.map_err(|error| ColdError::Unavailable(format!("what is on record of {key} is not known now: {error}")))?;
        Ok(known.into_values().next().map(|known| known.etag))
    }

    async fn is_needed(&self, verified: Verified<'_>) -> bool {
        let needed = self.catalogue.pack_is_needed(verified.pack).await;
        needed.unwrap_or_else(|error| {
            tracing::warn!(key = verified.key, %error, "whether a pack was replaced is not known");
            true
        })
    }

    /// An instance out of a pack was not what was stored: the pack is damaged, unless its checksum in the store says that it was lost on the way.
    pub(crate) async fn doubt(&self, cold: &ColdStore, verified: Verified<'_>) {
        match self.inspect(cold, verified).await {
            Ok(head) if head.crc64.is_none() || verified.crc64.is_none() => {
                self.damaged(verified.pack, verified.key, "an instance in it is not what was stored")
                    .await;
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(key = verified.key, %error, "a pack in doubt was looked at"),
        }
    }

    /// Puts on record that the cold store's copy of a pack is lost or altered.
    pub(crate) async fn damaged(&self, pack: PackKey, key: &str, damage: &str) {
        match self.catalogue.pack_damaged(pack, damage, self.clock.now()).await {
            Ok(true) => {
                tracing::error!(key, damage, "a verified pack is damaged: nothing counts on it any more");
                metrics::counter!("filmroom_packs_found_damaged_total").increment(1);
            }
            Ok(false) => {}
            Err(error) => tracing::error!(key, damage, %error, "a verified pack is damaged, and that could not be recorded"),
        }
    }

    pub(crate) async fn sound(&self, verified: Verified<'_>) {
        match self.catalogue.pack_sound(verified.pack).await {
            Ok(true) => tracing::info!(key = verified.key, "a pack that was damaged is as it was put"),
            Ok(false) => {}
            Err(error) => tracing::warn!(key = verified.key, %error, "that a pack is sound could not be recorded"),
        }
    }
}

/// In what a pack differs from what was verified.
fn difference(head: &Head, length: u64, crc64: Option<u64>) -> Option<String> {
    if head.length != length {
        return Some(format!("it has {} bytes instead of {length}", head.length));
    }
    match (head.crc64, crc64) {
        (Some(found), Some(verified)) if found != verified => Some(format!("its CRC-64 is {found:016x} instead of {verified:016x}")),
        _ => None,
    }
}

/// Whether an adopted object is not the one that was adopted.
fn overwritten(head: &Head, etag: Option<&str>) -> Option<String> {
    let adopted = etag.filter(|etag| !etag.is_empty())?;
    let found = head.etag.as_deref().filter(|found| *found != adopted)?;
    Some(format!(
        "its entity tag is {found} instead of {adopted}: it was overwritten after it was adopted"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_is_as_it_was_put_if_its_size_is_and_its_checksum_where_there_is_one() {
        let head = |length, crc64| Head {
            length,
            crc64,
            archived: None,
            restoring: false,
            etag: None,
        };
        assert_eq!(difference(&head(5, Some(7)), 5, Some(7)), None);
        assert_eq!(difference(&head(5, None), 5, Some(7)), None);
        assert_eq!(difference(&head(5, Some(7)), 5, None), None);
        assert!(difference(&head(5, Some(8)), 5, Some(7)).is_some_and(|what| what.contains("CRC-64")));
        assert!(difference(&head(4, Some(7)), 5, Some(7)).is_some_and(|what| what.contains("4 bytes")));
    }
}
