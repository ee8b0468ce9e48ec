//! Deliveries: what a C-MOVE could not send because S3 had archived it, sent by this node when it is readable, to destinations that opted in.
//!
//! That C-MOVE is over: the C-STOREs have no Move Originator (PS3.7 9.1.1.1).
//!
//! - [`terms`]: on what terms images are made readable for an AE.
//! - [`handover`]: an image that a delivery has is leased, sent, recorded: by a delivery and by a C-MOVE alike.
//! - [`worker`]: finds the deliveries that are due, on any node; ends those whose time is over; counts.
//! - [`pass`]: one look at what a delivery still has to send; [`verdict`]: what came of it.

pub(crate) mod handover;
mod pass;
pub(crate) mod terms;
mod verdict;
pub mod worker;
