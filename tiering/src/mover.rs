//! Moves what is quiet to the cold store, and what is unused off the disk.
