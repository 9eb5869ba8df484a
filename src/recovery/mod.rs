//! One recovery: request → plan → work items → changes → events → sinks → status.

mod account;
mod executor;
mod plan;
mod presence;
mod progress;
mod proof;
mod report;
mod request;
mod run;
mod set_up;
mod sinks;
mod status;
mod steps;
mod store;
mod throughput;
mod trace;
mod work_item;

pub use plan::{Plan, PlanTable, plan};
pub use progress::Progress;
pub use report::{Report, TableReport};
pub use request::{FdwOverrides, Request, SinkTarget, StrategyChoice, Verify};
pub use run::{Control, Outcome, Start, run};
pub(crate) use status::{RecoveryStatus, RecoverySummary, TableStatus};
pub(crate) use steps::{Limits, Steps};
pub(crate) use store::{AskOptions, Asked, Due, Page, RecoveryState, Retried, Store};
pub use throughput::Throughput;
pub use work_item::Counts;
