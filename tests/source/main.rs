//! The source text against what is said of it: the layers of docs/architecture.md, the sentences of
//! docs/troubleshooting.md. Needs nothing but the files.

#![allow(clippy::unwrap_used)]

mod imports;
mod layers;
mod troubleshooting;
