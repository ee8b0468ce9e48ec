//! The manifest beside a pack: enough to rebuild the catalogue without reading the pack.
