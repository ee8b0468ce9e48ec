//! DICOM: associations, DIMSE messages and the services of filmroom.
//!
//! This crate knows no SQL and no S3: it asks [`filmroom_index::catalogue::Catalogue`] and [`filmroom_tiering::Archive`].
//!
//! # Layout, from the wire upwards
//! - [`pdu`]: protocol data units on a stream (PS3.8 9.3), bounded; dicom-ul is the codec.
//! - [`negotiate`]: what is proposed and what is accepted: pure (PS3.8 7.1, PS3.7 D.3.3).
//! - [`access`]: who may do what: networks, users, passcodes.
//! - [`association`]: one association over any stream, acceptor or requestor, with its timers.
//! - [`dimse`]: typed requests, responses and statuses (PS3.7): the only place that knows tags and hex of a command.
//! - [`server`]: accepts connections, bounds them, hands each message to its service.
//! - [`services`]: one module a service.
//! - [`destinations`]: associations that we open: C-MOVE sub-operations, `filmroom send`, `filmroom echo`.
//! - [`deliveries`]: what a C-MOVE could not send because it was archived, sent when it is readable.
//! - [`migration`]: moving in from another PACS: its studies found, brought, compared.
//! - `leased`: work that is queued in the catalogue, done while its lease is held.
//! - [`transcoding`]: what is sent in another transfer syntax than it is stored in.
//! - [`stream`]: plain TCP or TLS. [`tls`]: certificates, handshakes, and what goes wrong with them in words.
//! - [`settings`]: what the configuration says about DICOM.
//! - [`conformance`]: the tables of the conformance statement.

pub mod access;
#[cfg(feature = "archive")]
pub mod association;
#[cfg(feature = "archive")]
pub mod conformance;
#[cfg(feature = "archive")]
pub mod deliveries;
#[cfg(feature = "archive")]
pub mod destinations;
pub mod dimse;
#[cfg(feature = "archive")]
mod leased;
#[cfg(feature = "archive")]
pub mod migration;
pub mod negotiate;
pub mod pdu;
#[cfg(feature = "archive")]
pub mod server;
#[cfg(feature = "archive")]
pub mod services;
pub mod settings;
#[cfg(feature = "archive")]
pub mod stream;
pub mod tls;
#[cfg(feature = "archive")]
pub mod transcoding;
