//! The words that the other rooms share: what is asked for, what is known of the restores, what is
//! found, how a recovery stands. No I/O.

mod assessment;
mod counts;
mod event_format;
mod event_hub;
mod gap_proof;
mod history;
mod lsn;
mod op;
mod plan;
mod problem;
mod record;
mod request;
mod ssl_mode;
mod status;
mod strategy;
mod table_name;

pub use assessment::{
    AssessedDatabase, AssessedSlot, AssessedWal, Assessment, Loss, Requirement, SlotState,
};
pub use counts::Counts;
pub use event_format::{
    BeforeImage, BinaryMode, DebeziumOptions, DecimalMode, Format, HstoreMode, IntervalMode,
    TimePrecision,
};
pub(crate) use event_hub::EMULATOR;
pub use event_hub::{EventHubOptions, HubAddress, PartitionBy, PartitionHash, PartitionKeySource};
pub use gap_proof::GapProof;
pub use history::{Ancestor, History};
pub use lsn::Lsn;
pub use op::Op;
pub use plan::{Plan, PlanTable, Throughput};
pub use problem::ProblemDocument;
pub use record::{Record, Recorded, RecordedPublication, RecordedRelation};
pub use request::{FdwOverrides, Request, SinkTarget, Verify};
pub use ssl_mode::SslMode;
pub use status::{
    Begun, ByState, PartState, RecoveryState, RecoveryStatus, RecoverySummary, TableStatus, Totals,
};
pub use strategy::{Strategy, StrategyChoice};
pub use table_name::TableName;
