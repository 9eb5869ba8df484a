//! One recovery: request → plan → work items → changes → events → sinks → status.

mod account;
mod coordination;
mod coordinator_lock;
mod diagnosis;
mod engine;
mod live_counts;
mod plan;
mod progress;
mod proof;
mod report;
mod request;
mod sequences;
mod set_up;
mod sinks;
mod status;
mod store;
mod throughput;
mod trace;
mod work;
mod work_item;
mod worker;

pub use engine::{Approved, CallLimit, Engine, Limits, check, unknown};
pub use plan::{Plan, PlanTable, plan};
pub use progress::Progress;
pub use report::{Report, TableReport};
pub use request::{FdwOverrides, Request, SinkTarget, StrategyChoice, Verify};
pub(crate) use status::{RecoveryStatus, RecoverySummary, TableStatus};
pub use store::Due;
pub(crate) use store::{NewRecovery, Page, PendingMessages, Registration, Retried, Store};
pub use throughput::Throughput;
pub use work::Worked;
pub use work_item::Counts;
