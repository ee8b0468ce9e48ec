//! From the place where another program put it into a pack of ours.
//!
//! # Invariants
//! - One transaction puts the packs on record as verified and has the objects belong to them, or changes nothing: where a member is another than it was when it
//!   was read (deleted, superseded, rejected, moved), the claim is as good as lost.
//! - The digests that were learnt come with it: the manifest has them, so the journal need not.

use super::super::database::{Connection, execute, fetch_optional};
use super::super::packs::{VerifiedPack, insert_verified};
use super::super::rows::{lock_study_of, recount_hot, signed};
use super::super::{Catalogue, Error, RepackClaim, RepackedMember, RepackedPack, Result};
use crate::model::Timestamp;

impl Catalogue {
    /// Packs with what was read from foreign objects were put and verified: the objects belong to them from now on, and the foreign objects are their originals,
    /// which are queued to be erased if that was asked for. [`Error::LeaseLost`] as well if a member has changed since it was claimed.
    pub async fn repacked(&self, claim: &RepackClaim, packs: &[RepackedPack], now: Timestamp) -> Result<()> {
        let mut connection = self.write().await?;
        lock_study_of(&mut connection, claim.series.0).await?;
        let sql = "UPDATE repacks SET lease_until = 0, next_at = 0, look_at = 0, attempts = 0, error = ''
                   WHERE series = $1 AND fence = $2 RETURNING node, remove_originals";
        let ours: Option<(Option<i64>, i64)> = fetch_optional!(connection, sql, claim.series.0, claim.fence)?;
        let Some((Some(node), remove)) = ours else {
            return Err(Error::LeaseLost);
        };
        for pack in packs {
            let verified = VerifiedPack {
                layout: pack.layout,
                manifest: pack.manifest.as_deref(),
                key: &pack.key,
                length: pack.length,
                crc64: pack.crc64,
                tag: pack.tag,
                serving: pack.serving,
            };
            let id = insert_verified(&mut connection, claim.series, node, &verified, now).await?;
            for member in &pack.members {
                belongs(&mut connection, claim, pack, id, member).await?;
                if remove != 0 {
                    let sql = "INSERT INTO erasures (pack) VALUES ($1) ON CONFLICT (pack) DO NOTHING";
                    execute!(connection, sql, member.original.0)?;
                }
            }
            execute!(connection, "DELETE FROM repack_keys WHERE cold_key = $1", pack.key.as_str())?;
        }
        recount_hot(&mut connection, claim.series.0).await?;
        connection.commit().await
    }
}

/// A member belongs to a pack from now on, if it is what it was when it was read.
async fn belongs(connection: &mut Connection, claim: &RepackClaim, pack: &RepackedPack, id: i64, member: &RepackedMember) -> Result<()> {
    let sql = "UPDATE objects SET pack = $1, pack_offset = $2, sha256 = $3, crc32 = $4
               WHERE object_id = $5 AND series = $6 AND pack = $7 AND state = $8 AND (sha256 IS NULL OR sha256 = $3) RETURNING id";
    let moved: Option<(i64,)> = fetch_optional!(
        connection,
        sql,
        id,
        signed(member.offset),
        &member.sha256.0[..],
        i64::from(member.crc32),
        member.object.0,
        claim.series.0,
        member.original.0,
        pack.serving.as_str()
    )?;
    let (object,) = moved.ok_or(Error::LeaseLost)?;
    let sql = "UPDATE packs SET original_of = $2 WHERE id = $1 AND layout = 'foreign'";
    if execute!(connection, sql, member.original.0, object)? == 0 {
        return Err(Error::LeaseLost);
    }
    execute!(connection, "DELETE FROM learnt_digests WHERE object = $1", object)?;
    Ok(())
}
