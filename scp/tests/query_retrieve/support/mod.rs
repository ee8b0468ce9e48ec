//! A node on a temporary directory, a requestor on a pipe, and a scripted destination on loopback.

mod destination;
mod images;
mod lab;
mod requestor;

pub(crate) use destination::{Act, Destination, Stored};
pub(crate) use images::{CT, FIND, GET, Image, MOVE, MR, PATIENCE, PATIENT_MOVE, WITHOUT_BULK_DATA, ae, series};
pub(crate) use lab::{Lab, peer};
pub(crate) use requestor::{Reply, ask, cancel, context, find, identifier, next, replies, reply, storage_context, study_key};
