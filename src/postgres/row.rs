//! Rows as Rust values.

use std::error::Error;

use serde::de::DeserializeOwned;
use tokio_postgres::types::{FromSql, Json, Type};
use uuid::Uuid;

use crate::error::Result;

pub(crate) use tokio_postgres::Row;

/// What a row can be read as: the value of its first column, a tuple of its first columns, or a
/// struct by the columns' names (see `from_row!`).
pub trait FromRow: Sized {
    /// Reads a row.
    ///
    /// # Errors
    /// The row has not these columns, or they are of other types.
    fn from_row(row: Row) -> Result<Self>;
}

impl FromRow for Row {
    fn from_row(row: Row) -> Result<Self> {
        Ok(row)
    }
}

macro_rules! values {
    ($($value:ty),+ $(,)?) => {
        $(impl FromRow for $value {
            fn from_row(row: Row) -> Result<Self> {
                Ok(row.try_get(0)?)
            }
        }

        impl FromRow for Option<$value> {
            fn from_row(row: Row) -> Result<Self> {
                Ok(row.try_get(0)?)
            }
        })+
    };
}

values!(bool, i32, i64, f64, String, Uuid, Vec<i32>, Vec<String>);

impl<T: DeserializeOwned> FromRow for Json<T> {
    fn from_row(row: Row) -> Result<Self> {
        Ok(row.try_get(0)?)
    }
}

macro_rules! tuples {
    ($(($($column:ident $at:tt),+))+) => {
        $(impl<$($column: for<'a> FromSql<'a>),+> FromRow for ($($column,)+) {
            fn from_row(row: Row) -> Result<Self> {
                Ok(($(row.try_get::<_, $column>($at)?,)+))
            }
        })+
    };
}

tuples! {
    (A 0)
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
    (A 0, B 1, C 2, D 3, E 4)
    (A 0, B 1, C 2, D 3, E 4, F 5)
}

/// A value as PostgreSQL sends it in binary.
pub(crate) struct Binary<'a>(pub(crate) &'a [u8]);

impl<'a> FromSql<'a> for Binary<'a> {
    fn from_sql(_: &Type, bytes: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(bytes))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// Reads a struct's fields from the columns of the same names.
macro_rules! from_row {
    ($row:ty { $($column:ident),+ $(,)? }) => {
        impl $crate::postgres::FromRow for $row {
            fn from_row(row: $crate::postgres::Row) -> $crate::error::Result<Self> {
                Ok(Self { $($column: row.try_get(stringify!($column))?),+ })
            }
        }
    };
}
pub(crate) use from_row;
