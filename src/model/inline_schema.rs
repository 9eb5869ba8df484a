//! Descriptions of fields whose type has a description of its own.

use utoipa::PartialSchema;
use utoipa::openapi::{RefOr, Schema};

/// The type's own description in the place of the field. utoipa's `inline` puts the field's text beside
/// it in an `allOf` that nothing satisfies.
pub(super) fn inlined<T: PartialSchema>() -> RefOr<Schema> {
    T::schema()
}
