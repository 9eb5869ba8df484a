//! One recovery: request → plan → work items → changes → events → sinks → status.

mod executor;
mod plan;
mod presence;
mod progress;
mod proof;
mod report;
mod request;
mod run;
mod store;
mod throughput;
mod work_item;

pub use plan::{Plan, plan};
pub use progress::Progress;
pub use report::{Report, TableReport};
pub use request::{FdwOverrides, Request, SinkTarget, StrategyChoice, Verify};
pub use run::{Control, Outcome, Start, run};
pub use throughput::Throughput;
pub use work_item::Counts;
