//! A walk through the archive that the command line has done stride by stride: by the running node, or by itself when none runs.

use serde::{Deserialize, Serialize};

/// One stride of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step<Order, Place> {
    /// What is to be done
    pub(crate) order: Order,
    /// Where the last stride ended; none: the first one
    pub(crate) place: Option<Place>,
}
