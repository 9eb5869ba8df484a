//! The Azure Functions app: what the Functions host starts and calls.

pub mod bindings;
