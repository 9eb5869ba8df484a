//! PostgreSQL, as the rest of the program sees it: a server's address, TLS, sessions with pinned
//! settings, pools, COPY, errors, quoted names. Nothing outside knows the driver.

mod address;
mod error;
mod login;
mod parameter;
mod password;
mod pool;
mod pooler;
mod read_ahead;
mod row;
mod session;
mod settings;
mod sql;
mod stop;
mod tls;

pub use address::{Server, Side};
pub use parameter::{Parameter, Parameters, SqlType};
pub use row::FromRow;
pub use session::Session;
pub use settings::{LATER_SESSION_SETTINGS, SESSION_SETTINGS};
pub use sql::{Ident, Literal, QualifiedName};
pub use stop::statements_stopped;

pub(crate) use password::{FixedPassword, PasswordSource};
pub(crate) use pool::Pool;
pub(crate) use pooler::NAME_THE_SERVERS_PORT;
pub(crate) use row::{Binary, Row, from_row};
pub(crate) use session::Transaction;
pub(crate) use settings::{APPLICATION_NAMES, session_options};
pub(crate) use tokio_postgres::types::{self, Json};
