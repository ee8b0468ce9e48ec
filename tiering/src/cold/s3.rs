//! Amazon S3, or a server that speaks its protocol.
/// A bucket.
#[derive(Clone, Debug)]
pub struct S3 {}
