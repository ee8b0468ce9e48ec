//! Objects whose files are being named, or are named already, and that the catalogue does not know yet.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use filmroom_index::model::{ObjectId, Uid};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// Who finds a file that is on no record asks here whether it will be; who has another version of the same instance waits. Bounded by the batches that the committer has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unrecorded {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    objects: Mutex<Objects>,
    removed: Notify,
}

/// One version of an instance at a time.
#[derive(Debug, Default)]
struct Objects {
    instances: HashMap<ObjectId, Uid>,
    under_way: HashSet<Uid>,
}

impl Unrecorded {
    /// Before its file gets its name.
    pub(super) fn add(&self, object: ObjectId, sop_instance: &Uid) {
        let mut objects = self.lock();
        objects.instances.insert(object, sop_instance.clone());
        objects.under_way.insert(sop_instance.clone());
    }

    /// When the catalogue has answered for them, or they got no name.
    pub(super) fn remove<'a>(&self, removed: impl IntoIterator<Item = &'a ObjectId>) {
        let mut objects = self.lock();
        for object in removed {
            if let Some(sop_instance) = objects.instances.remove(object) {
                objects.under_way.remove(&sop_instance);
            }
        }
        drop(objects);
        self.shared.removed.notify_waiters();
    }

    /// Ends when some are removed after it was asked for.
    pub(super) fn removal(&self) -> Notified<'_> {
        self.shared.removed.notified()
    }

    /// Whether an object is on its way to the catalogue.
    pub(crate) fn contains(&self, object: ObjectId) -> bool {
        self.lock().instances.contains_key(&object)
    }

    /// Whether a version of an instance is.
    pub(super) fn has_version_of(&self, sop_instance: &Uid) -> bool {
        self.lock().under_way.contains(sop_instance)
    }

    fn lock(&self) -> MutexGuard<'_, Objects> {
        self.shared.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
