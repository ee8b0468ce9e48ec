//! Moving in from another PACS: its studies are found, brought here, and compared.
//!
//! - [`window`]: what a remote is asked for its studies, and what instead when it does not tell them all: pure.
//! - [`remote`]: what it says: C-FIND as SCU.
//! - [`retrieve`]: has images sent: C-MOVE and C-GET as SCU. `contexts`: what is proposed for the latter.
//! - `verdict`: what a look at a study means: pure. `study`: one study, from the question to the verdict.
//! - [`worker`]: works on the migrations of the catalogue, at the [`pace`] that the hour allows.
//! - [`compare`]: what the remote has and what is here, side by side; [`compared`]: what came of it.

pub mod compare;
pub mod compared;
mod contexts;
pub mod pace;
pub mod remote;
pub mod retrieve;
mod study;
mod verdict;
pub mod window;
pub mod worker;
