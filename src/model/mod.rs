//! The words that the other rooms share: what is asked for, what is known of the restores, what is
//! found, how a recovery stands. No I/O, but for the file that an option names.

mod assessment;
mod counts;
mod debezium;
mod event_format;
mod event_hub;
mod fdw_overrides;
mod gap_proof;
mod history;
mod inline_schema;
mod key_values;
mod lsn;
mod nearest;
mod op;
pub mod option_group;
mod plan;
mod problem;
mod record;
mod request;
mod sink_target;
mod ssl_mode;
mod status;
mod strategy;
mod table_name;

pub use assessment::{
    AssessedDatabase, AssessedSlot, AssessedWal, Assessment, Loss, Requirement, SlotState,
};
pub use counts::Counts;
pub use debezium::{DebeziumOptions, DebeziumProperties};
pub use event_format::{
    BeforeImage, BinaryMode, DecimalMode, Format, HstoreMode, IntervalMode, TimePrecision,
};
pub(crate) use event_hub::EMULATOR;
pub use event_hub::{EventHubOptions, HubAddress, PartitionBy, PartitionHash, PartitionKeySource};
pub use fdw_overrides::FdwOverrides;
pub use gap_proof::GapProof;
pub use history::{Ancestor, History};
pub use lsn::Lsn;
pub(crate) use nearest::nearest;
pub use op::Op;
pub use plan::{ExpectedEvents, Plan, PlanPending, PlanTable, SlotWal, Throughput};
pub use problem::ProblemDocument;
pub use record::{Record, Recorded, RecordedPublication, RecordedRelation};
pub use request::{Accept, Request, StartOptions, Verify};
pub use sink_target::SinkTarget;
pub use ssl_mode::SslMode;
pub use status::{
    Begun, ByState, PartState, RecoveryState, RecoveryStatus, RecoverySummary, TableStatus, Totals,
};
pub use strategy::{Strategy, StrategyChoice};
pub use table_name::TableName;
