//! Packs that S3 has archived, and how they come back.

mod forecast;
mod inspect;

pub(crate) use forecast::{Forecast, pack_state, used_since};
pub(crate) use inspect::Verified;
