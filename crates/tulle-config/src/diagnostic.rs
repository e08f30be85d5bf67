//! Findings: what every stage of reading configuration says when something is wrong.
//!
//! One shape for `tulle analyze`, the control plane's log and its status pages. A finding names
//! the place (`file:line:column`), a code that never changes its meaning, the field, what is wrong
//! and what to write instead.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::object::ObjectId;
use crate::tree::Position;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The object works; something about it is probably not meant.
    Warning,
    /// The object is refused, or a part of it can never work.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Warning => "warning",
            Severity::Error => "error",
        })
    }
}

macro_rules! codes {
    ($($name:ident $text:literal $severity:ident $summary:literal;)*) => {
        /// The stable code of a finding.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = concat!($text, ": ", $summary)] $name,)*
        }

        impl Code {
            /// Every code, in the order of the reference.
            pub const ALL: &[Code] = &[$(Code::$name,)*];

            /// The code as users see and search it; never changes.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text,)* }
            }

            /// What the code stands for, one line.
            pub fn summary(self) -> &'static str {
                match self { $(Code::$name => $summary,)* }
            }

            /// Whether it refuses or warns.
            pub fn severity(self) -> Severity {
                match self { $(Code::$name => Severity::$severity,)* }
            }
        }
    };
}

codes! {
    Syntax "TUL0101" Error "The document is not readable as YAML or JSON.";
    FileTooLarge "TUL0102" Error "The file is larger than is read.";
    TooDeep "TUL0103" Error "The document is nested too deeply.";
    TooManyNodes "TUL0104" Error "The document has too many values after its aliases.";
    DuplicateKey "TUL0105" Error "A map has the same key twice.";
    UnsupportedYaml "TUL0106" Error "A tag, alias or key that has no meaning here.";
    VariableForbidden "TUL0107" Error "Configuration may not read this environment variable.";
    VariableUnset "TUL0108" Error "An environment variable without a default is not set.";
    EmptyFile "TUL0109" Error "The file is empty, as files are while they are written.";
    NotAnObject "TUL0201" Error "The document is not an object with apiVersion, kind, metadata.";
    UnknownKind "TUL0202" Error "This release does not enforce objects of this kind.";
    UnknownVersion "TUL0203" Error "The kind is known, but not in this API version.";
    InvalidName "TUL0204" Error "The object's name or namespace is missing or invalid.";
    DuplicateObject "TUL0205" Error "The same object is in two places; the first path wins.";
    UnknownField "TUL0301" Error "The field does not exist.";
    NotEnforcedField "TUL0302" Error "The field exists, but is not enforced by this release.";
    WrongType "TUL0303" Error "The value has the wrong type.";
    MissingField "TUL0304" Error "A required field is missing or empty.";
    InvalidValue "TUL0305" Error "The value is out of range or malformed.";
    NotEnforcedValue "TUL0306" Error "The value exists, but is not enforced by this release.";
    UnknownValue "TUL0307" Error "The value is none of those the field takes.";
    InvalidDuration "TUL0308" Error "The value is not a duration.";
    InvalidRegex "TUL0309" Error "The regular expression does not compile.";
    InvalidAddress "TUL0310" Error "The value is not an address, or not one allowed here.";
    InvalidHost "TUL0311" Error "The value is not a host name.";
    InvalidHeader "TUL0312" Error "The header name or value cannot be used.";
    Conflict "TUL0313" Error "Fields that exclude each other are set together.";
    DuplicateValue "TUL0314" Error "A value that must be unique in its list is not.";
    HostBits "TUL0315" Warning "A CIDR has host bits set; the whole network matches.";
    NoEffect "TUL0316" Warning "The setting has no effect here.";
    UnknownHost "TUL0401" Error "No service has this host, seen from this namespace.";
    UnknownSubset "TUL0402" Error "No DestinationRule defines this subset of the host.";
    UnknownPort "TUL0403" Error "The service has no such port.";
    AmbiguousPort "TUL0404" Error "The service has several ports and none is named.";
    WeightSum "TUL0405" Warning "The weights of a rule do not add up to 100.";
    UnreachableRule "TUL0406" Warning "An earlier rule takes everything this rule matches.";
    ConflictingHost "TUL0407" Warning "Two objects of this kind rule the same host.";
    UnknownGateway "TUL0408" Error "The Gateway does not exist.";
    GatewayHost "TUL0409" Warning "No server of the Gateway accepts the host.";
    SharedAddress "TUL0410" Error "Two TCP services share an address and port.";
    NothingSelected "TUL0411" Warning "The selector selects no workload.";
    UnusedRule "TUL0412" Warning "The object concerns no known service.";
    ConflictingPort "TUL0413" Error "Two declarations of a port contradict each other.";
    NotVisible "TUL0414" Error "The host exists, but is not exported to this namespace.";
    ProtocolMismatch "TUL0415" Warning "Rules of this protocol never see the service's traffic.";
    ConflictingExport "TUL0416" Error "Two declarations of a host are exported differently.";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Stable code.
    pub code: Code,
    /// Whether the object is refused.
    pub severity: Severity,
    /// File, as it was named by the caller.
    pub file: String,
    /// Line and column.
    #[serde(flatten)]
    pub at: Position,
    /// The object, once it is known which one it is.
    pub object: Option<ObjectId>,
    /// Path of the field from the object's root; empty for the object itself.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

impl Diagnostic {
    /// Whether the finding refuses something.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position { line, column } = self.at;
        write!(f, "{}:{line}:{column}: {}[{}]", self.file, self.severity, self.code)?;
        if !self.path.is_empty() {
            write!(f, " {}", self.path)?;
        } else if let Some(object) = &self.object {
            write!(f, " {object}")?;
        }
        write!(f, ": {}", self.message)?;
        if !self.help.is_empty() {
            write!(f, "; {}", self.help)?;
        }
        Ok(())
    }
}

/// The order findings are shown in: by file, then place, then code.
pub fn sort(diagnostics: &mut [Diagnostic]) {
    diagnostics.sort_by(|a, b| {
        let key = |d: &Diagnostic| (d.at, d.code, d.path.clone(), d.message.clone());
        a.file.cmp(&b.file).then_with(|| key(a).cmp(&key(b)))
    });
}

/// The reference table of all codes, in Markdown.
pub fn reference() -> String {
    let mut out = String::from("| code | severity | meaning |\n|---|---|---|\n");
    let by_code: BTreeMap<&str, Code> =
        Code::ALL.iter().map(|code| (code.as_str(), *code)).collect();
    for (text, code) in by_code {
        out.push_str(&format!("| {text} | {} | {} |\n", code.severity(), code.summary()));
    }
    out
}

#[cfg(test)]
mod tests;
