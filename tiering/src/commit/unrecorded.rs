//! Objects whose files are being named, or are named already, and that the catalogue does not know yet.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use filmroom_index::model::ObjectId;

/// Who finds a file that is on no record asks here whether it will be. Bounded by two batches.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unrecorded {
    objects: Arc<Mutex<HashSet<ObjectId>>>,
}

impl Unrecorded {
    /// Before their files get their names.
    pub(super) fn add(&self, objects: impl IntoIterator<Item = ObjectId>) {
        self.lock().extend(objects);
    }

    /// When the catalogue has answered for them, or they got no name.
    pub(super) fn remove<'a>(&self, objects: impl IntoIterator<Item = &'a ObjectId>) {
        let mut kept = self.lock();
        for object in objects {
            kept.remove(object);
        }
    }

    /// Whether an object is on its way to the catalogue.
    pub(crate) fn contains(&self, object: ObjectId) -> bool {
        self.lock().contains(&object)
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<ObjectId>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
