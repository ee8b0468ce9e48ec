//! An adoption, as the command line has it done stride by stride: by the running node, or by itself when none runs.

use filmroom_tiering::adopt::{Order, Place};
use serde::{Deserialize, Serialize};

/// One stride of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    /// What is to be adopted
    pub(crate) order: Order,
    /// Where the last stride ended; none: the first one
    pub(crate) place: Option<Place>,
}
