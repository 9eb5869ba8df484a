//! One recovery: request → plan → work items → changes → events → sinks → status.

mod account;
mod batch;
mod coordination;
mod coordinator_lock;
mod deadline;
mod diagnosis;
mod engine;
mod forecast;
mod live_counts;
mod plan;
mod progress;
mod proof;
mod ranges;
mod report;
mod sequences;
mod set_up;
mod sinks;
mod store;
mod strategy_choice;
mod trace;
mod work;
mod work_item;
mod worker;

pub(crate) use engine::counts_lost;
pub use engine::{Approved, CallLimit, Engine, Limits, check, unknown};
pub use plan::plan;
pub use progress::Progress;
pub use report::{Report, TableReport};
pub use store::Due;

pub(crate) use ranges::bytes_a_second;
pub(crate) use store::{
    NewRecovery, Page, PendingMessages, RENEW_PLAN_EVERY, Registration, Retried, Store,
};
pub use work::Worked;
