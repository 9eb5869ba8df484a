//! Values that are bound to statements.

use std::borrow::Cow;

use serde_json::Value;
use tokio_postgres::types::{Json, ToSql, Type};
use uuid::Uuid;

/// A Rust type whose values are of one PostgreSQL type. Statements are sent with the types of their
/// parameters, so that PostgreSQL infers none.
pub trait SqlType: ToSql {
    /// The type.
    const TYPE: Type;
    /// The type of its arrays.
    const ARRAY: Type;
}

/// A value that can be bound.
pub trait Parameter: ToSql {
    /// Its type.
    fn sql_type(&self) -> Type;
}

impl<T: SqlType> Parameter for T {
    fn sql_type(&self) -> Type {
        T::TYPE
    }
}

/// What a statement's `$1`, `$2`, … stand for.
pub type Parameters<'a> = &'a [&'a (dyn Parameter + Sync)];

macro_rules! sql_types {
    ($($rust:ty => $sql:ident, $array:ident;)+) => {
        $(impl SqlType for $rust {
            const TYPE: Type = Type::$sql;
            const ARRAY: Type = Type::$array;
        })+
    };
}

sql_types! {
    bool => BOOL, BOOL_ARRAY;
    i16 => INT2, INT2_ARRAY;
    i32 => INT4, INT4_ARRAY;
    i64 => INT8, INT8_ARRAY;
    u32 => OID, OID_ARRAY;
    f32 => FLOAT4, FLOAT4_ARRAY;
    f64 => FLOAT8, FLOAT8_ARRAY;
    &str => TEXT, TEXT_ARRAY;
    String => TEXT, TEXT_ARRAY;
    Cow<'_, str> => TEXT, TEXT_ARRAY;
    Uuid => UUID, UUID_ARRAY;
    Value => JSONB, JSONB_ARRAY;
}

impl<T: SqlType> SqlType for &T {
    const TYPE: Type = T::TYPE;
    const ARRAY: Type = T::ARRAY;
}

impl<T> SqlType for Json<T>
where
    Self: ToSql,
{
    const TYPE: Type = Type::JSONB;
    const ARRAY: Type = Type::JSONB_ARRAY;
}

impl<T: SqlType> SqlType for Option<T> {
    const TYPE: Type = T::TYPE;
    const ARRAY: Type = T::ARRAY;
}

impl<T: SqlType> SqlType for Vec<T> {
    const TYPE: Type = T::ARRAY;
    const ARRAY: Type = T::ARRAY;
}

impl<T: SqlType> SqlType for &[T] {
    const TYPE: Type = T::ARRAY;
    const ARRAY: Type = T::ARRAY;
}
