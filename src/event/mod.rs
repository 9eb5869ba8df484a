//! A change → bytes: one line of JSON an event, in one of two formats.
//!
//! [`Encoder`] is built once per recovery and table and turns each [`crate::diff::Change`] into an
//! [`Event`]. Encoding depends on nothing but the settings, the table and the change, so an event
//! that is sent again after a crash is byte for byte the one that was sent before.
//!
//! The formats, type by type, and where each rule comes from: `docs/events.md`.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod debezium;
mod encoder;
mod error;
mod event_id;
mod events_digest;
mod json;
mod landing;
mod row;
mod settings;
mod value;

#[cfg(test)]
mod contract;
#[cfg(test)]
mod testing;

pub use encoder::{Encoder, Event};
pub use error::EncodeError;
pub use events_digest::EventsDigest;
pub use settings::EncoderSettings;
