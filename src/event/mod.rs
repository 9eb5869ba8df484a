//! A change as bytes.
