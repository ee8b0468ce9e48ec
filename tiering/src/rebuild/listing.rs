//! The cold store's listing, study by study.

use std::collections::BTreeMap;

use filmroom_index::model::{Timestamp, Uid};
use futures::{Stream, StreamExt, stream};

use crate::adopt::record;
use crate::cold::{ColdError, Listed, Listing};
use crate::pack::is_instance_name;

/// The folder of the journal that is about patients, whatever their studies. No Study Instance UID is called so.
pub(crate) const PATIENTS: &str = "patients";

/// What the cold store has of a study.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct StudyKeys {
    /// The folder's name
    pub(super) folder: String,
    /// Packs and objects of one instance, their lengths, and when they were put
    pub(super) packs: BTreeMap<String, (u64, Timestamp)>,
    /// Manifests, and their lengths
    pub(super) manifests: BTreeMap<String, u64>,
    /// Entries of the journal
    pub(super) journal: Vec<String>,
    /// Records of adopted objects
    pub(super) adopted: Vec<String>,
    /// Objects that are none of these
    pub(super) others: u64,
}

impl StudyKeys {
    /// The study, if its folder is named by one.
    pub(super) fn study(&self) -> Option<Uid> {
        Uid::parse(&self.folder).ok()
    }

    fn add(&mut self, listed: Listed) {
        let Listed { key, length, put_at, .. } = listed;
        let parts: Vec<&str> = key.split('/').collect();
        match parts.as_slice() {
            [_, name] if name.starts_with("journal-") && name.ends_with(".json") => self.journal.push(key),
            [_, name] if name.starts_with(record::PREFIX) && name.ends_with(record::SUFFIX) => self.adopted.push(key),
            [_, _, name] if name.ends_with(".zip") || is_instance_name(name) => {
                self.packs.insert(key, (length, put_at));
            }
            [_, _, name] if name.ends_with(".json.zst") => {
                self.manifests.insert(key, length);
            }
            _ => self.others += 1,
        }
    }
}

/// Puts together what comes together.
pub(super) fn studies(listing: Listing) -> impl Stream<Item = Result<StudyKeys, ColdError>> {
    stream::try_unfold((listing, None::<StudyKeys>), |(mut listing, mut open)| async move {
        loop {
            let Some(listed) = listing.next().await.transpose()? else {
                return Ok(open.map(|study| (study, (listing, None))));
            };
            let folder = listed.key.split('/').next().unwrap_or_default();
            let mut study = match open.take() {
                Some(study) if study.folder == folder => study,
                ended => {
                    let mut next = StudyKeys {
                        folder: folder.to_owned(),
                        ..StudyKeys::default()
                    };
                    if let Some(ended) = ended {
                        next.add(listed);
                        return Ok(Some((ended, (listing, Some(next)))));
                    }
                    next
                }
            };
            study.add(listed);
            open = Some(study);
        }
    })
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::*;

    #[tokio::test]
    async fn what_belongs_to_a_study_comes_together() {
        let keys = [
            "1.2.3/journal-a.json",
            "1.2.3/4.5/a.json.zst",
            "1.2.3/4.5/a.zip",
            "1.2/4.5/b.superseded.zip",
            "1.2/4.5/1.2.3.0123456789abcdef.dcm",
            "1.2/4.5/1.2.3.dcm",
            "1.2/4.5/note.txt",
            "1.2/x/y/z.zip",
            "top.zip",
        ];
        let listed = keys.map(|key| {
            Ok(Listed {
                key: key.to_owned(),
                length: 7,
                put_at: Timestamp(9),
                etag: String::new(),
                archived: false,
            })
        });
        let found: Vec<StudyKeys> = studies(Box::pin(stream::iter(listed))).try_collect().await.unwrap();
        assert_eq!(
            found.iter().map(|s| s.folder.as_str()).collect::<Vec<_>>(),
            ["1.2.3", "1.2", "top.zip"]
        );
        assert_eq!(found[0].journal, ["1.2.3/journal-a.json"]);
        assert_eq!(found[0].packs["1.2.3/4.5/a.zip"], (7, Timestamp(9)));
        assert_eq!(found[0].manifests.len(), 1);
        assert_eq!((found[1].packs.len(), found[1].manifests.len(), found[1].others), (2, 0, 3));
        assert_eq!((found[2].others, found[2].study()), (1, None));
        assert!(studies(Box::pin(stream::empty())).try_collect::<Vec<_>>().await.unwrap().is_empty());
    }
}
