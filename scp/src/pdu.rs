//! Protocol data units on a stream.
