//! The protocol of the Functions host: what it starts, posts and expects as an answer.

pub mod bindings;
pub(super) mod host_json;
pub(super) mod invocation;
pub(super) mod parent;
pub(super) mod predecessor;
