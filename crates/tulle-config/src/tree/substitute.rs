//! `${NAME}` and `${NAME:-default}` in scalars, from variables the caller allows.
//!
//! Works on the tree, after parsing: a value can never add fields or end a quote. `$${` is a
//! literal `${`; a `${` not followed by a name and `}` (a regular expression) stays as it is.

use super::{Document, Fault, Node, Style, Value};
use crate::diagnostic::Code;

/// Longest text one scalar may become, in bytes.
const MAX_SCALAR_BYTES: usize = 64 * 1024;

/// What the environment says about a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Variable {
    /// Allowed and set.
    Set(String),
    /// Allowed, not set.
    Unset,
    /// Not a name that configuration may read.
    Forbidden,
}

/// Replaces the variables in every scalar of a document; what fails becomes a fault of it.
pub fn substitute(document: &mut Document, lookup: &dyn Fn(&str) -> Variable) {
    let mut faults = Vec::new();
    walk(&mut document.root, "", lookup, &mut faults);
    document.faults.append(&mut faults);
}

fn walk(node: &mut Node, path: &str, lookup: &dyn Fn(&str) -> Variable, faults: &mut Vec<Fault>) {
    match &mut node.value {
        Value::Null => {}
        Value::Scalar(scalar) => {
            if !scalar.text.contains("${") {
                return;
            }
            match expand(&scalar.text, lookup) {
                Ok(text) => {
                    if text != scalar.text && scalar.style == Style::Quoted {
                        scalar.style = Style::Variable;
                    }
                    scalar.text = text;
                }
                Err((code, message, help)) => {
                    faults.push(Fault { code, at: node.at, path: path.into(), message, help });
                }
            }
        }
        Value::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                walk(item, &format!("{path}[{index}]"), lookup, faults);
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                let path = crate::path::join(path, &entry.key);
                walk(&mut entry.value, &path, lookup, faults);
            }
        }
    }
}

/// Lets every quoted scalar be read as whatever its field asks for: for text that was written
/// after its variables were replaced and accepted.
pub fn loosen(node: &mut Node) {
    match &mut node.value {
        Value::Null => {}
        Value::Scalar(scalar) => {
            if scalar.style == Style::Quoted {
                scalar.style = Style::Variable;
            }
        }
        Value::List(items) => items.iter_mut().for_each(loosen),
        Value::Map(entries) => entries.iter_mut().for_each(|entry| loosen(&mut entry.value)),
    }
}

type Failure = (Code, String, String);

fn expand(text: &str, lookup: &dyn Fn(&str) -> Variable) -> Result<String, Failure> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        if rest[..start].ends_with('$') {
            out.push_str(&rest[..start]);
            out.push('{');
            rest = &rest[start + 2..];
            continue;
        }
        out.push_str(&rest[..start]);
        let Some((reference, after)) = reference(&rest[start + 2..]) else {
            out.push_str("${");
            rest = &rest[start + 2..];
            continue;
        };
        out.push_str(&value_of(&reference, lookup)?);
        rest = after;
        if out.len() > MAX_SCALAR_BYTES {
            let message = format!("the text exceeds {MAX_SCALAR_BYTES} bytes");
            return Err((Code::InvalidValue, message, "use a shorter variable".into()));
        }
    }
    out.push_str(rest);
    Ok(out)
}

struct Reference<'a> {
    name: &'a str,
    default: Option<&'a str>,
}

/// `NAME}` or `NAME:-default}` at the beginning of `rest`, and what follows it.
fn reference(rest: &str) -> Option<(Reference<'_>, &str)> {
    let (inside, after) = rest.split_once('}')?;
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let mut chars = name.chars();
    let starts = chars.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_');
    let is_name = starts && chars.all(|char| char.is_ascii_alphanumeric() || char == '_');
    is_name.then_some((Reference { name, default }, after))
}

fn value_of(
    reference: &Reference<'_>,
    lookup: &dyn Fn(&str) -> Variable,
) -> Result<String, Failure> {
    let name = reference.name;
    match (lookup(name), reference.default) {
        (Variable::Set(value), _) => Ok(value),
        (Variable::Unset, Some(default)) => Ok(default.into()),
        (Variable::Unset, None) => Err((
            Code::VariableUnset,
            format!("the environment variable {name} is not set"),
            format!("set it, or write ${{{name}:-default}}"),
        )),
        (Variable::Forbidden, _) => Err((
            Code::VariableForbidden,
            format!("configuration may not read the environment variable {name}"),
            format!("allow it with --config-env {name}, or write $${{{name}}} for the text"),
        )),
    }
}
