//! Development only: a real pair of point-in-time restores, for tests, benchmarks and the demo.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use deltacompare_testbed::{Options, Postgres, Production, Role};
//!
//! let production = Production::start(&Postgres::find(None)?, Options::default()).await?;
//! production.sql("create table t (id int primary key); insert into t values (1)").await?;
//! production.base_backup().await?;
//! let lost = production.restore_point("lost").await?;
//! production.sql("insert into t values (2)").await?;
//! let back = production.restore_point("back").await?;
//! let (base, head) = tokio::try_join!(production.restore(&lost), production.restore(&back))?;
//! println!("{} {}", base.url(Role::Admin), head.url(Role::Admin));
//! # Ok(())
//! # }
//! ```
//!
//! The servers are real: `initdb`, a WAL archive, a base backup taken while production runs,
//! recovery to a named point, promotion. Nothing survives the process that started them, not even
//! when it is killed. Works as root (servers then run as `postgres` or `nobody`) and as anybody
//! else. What it does not cover is in this crate's `README.md`.

mod account;
mod azurite;
mod binaries;
mod cluster;
mod collector;
mod database;
pub mod event_hubs;
pub mod functions_host;
mod identity_endpoint;
mod interceptor;
mod key_vault;
mod layout;
mod options;
mod pgbouncer;
mod production;
mod proxy;
mod scratch;
mod server;
mod template;
mod tls;

pub use azurite::Azurite;
pub use binaries::{Browser, Postgres, browser, python, schemathesis};
pub use collector::{Attributes, Collector, Point, Span};
pub use database::{Connection, CopyOut, FromRow, Parameter, TextRow, Value};
pub use identity_endpoint::{IdentityEndpoint, Tokens};
pub use interceptor::Interceptor;
pub use key_vault::{KeyVault, Trouble};
pub use layout::layout;
pub use options::Options;
pub use pgbouncer::{PgBouncer, PoolMode, PoolerOptions};
pub use production::{Production, RestoreOptions};
pub use proxy::Proxy;
pub use server::{DecodedChange, RestorePoint, Role, Server, StopMode};
pub use tls::Tls;
