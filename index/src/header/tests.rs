//! Behaviour of the scanner.
