//! The plans that matter, whatever the statistics say.
