//! Where a configured thing comes from: the object a person wrote, never the file it stood in.
//!
//! File and line would change hashes when nothing else changes; the control plane resolves an
//! origin to `file:line:column` when somebody asks.

use std::fmt;
use std::sync::Arc;

/// The object and field that a listener, route, cluster or endpoint was made from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// Kind of the object, such as `VirtualService`.
    pub kind: Arc<str>,
    /// Namespace of the object.
    pub namespace: Arc<str>,
    /// Name of the object.
    pub name: Arc<str>,
    /// Path of the field inside it, such as `spec.http[0].route[1]`; empty for the whole object.
    pub field: Arc<str>,
}

impl Origin {
    /// The origin of a whole object.
    #[must_use]
    pub fn of_object(kind: &str, namespace: &str, name: &str) -> Self {
        Self { kind: kind.into(), namespace: namespace.into(), name: name.into(), field: "".into() }
    }

    /// The same object, one field of it.
    #[must_use]
    pub fn at(&self, field: impl Into<Arc<str>>) -> Self {
        Self { field: field.into(), ..self.clone() }
    }

    /// Reads back what [`Display`](fmt::Display) wrote: `Kind namespace/name [field]`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(' ')?;
        let (object, field) = rest.split_once(' ').unwrap_or((rest, ""));
        let (namespace, name) = object.split_once('/')?;
        Some(Self::of_object(kind, namespace, name).at(field))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)?;
        if self.field.is_empty() { Ok(()) } else { write!(f, " {}", self.field) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_read_back() {
        let object = Origin::of_object("VirtualService", "test", "by-header");
        for origin in [object.at("spec.http[0]"), object] {
            assert_eq!(Origin::parse(&origin.to_string()), Some(origin));
        }
        assert_eq!(Origin::parse("nonsense"), None);
    }
}
