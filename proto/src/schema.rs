//! How the types of this crate look in a description of an API.

use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};

/// A string of some form.
pub(crate) fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::Type(Type::String))
}
