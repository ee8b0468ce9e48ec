//! A directory as cold store.
/// A cold store in a directory.
#[derive(Clone, Debug)]
pub struct Directory {}
