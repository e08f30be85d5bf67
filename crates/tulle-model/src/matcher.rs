//! Matchers over strings, headers, query parameters and paths, with Envoy's meaning.
//!
//! Reference: `envoy.type.matcher.v3`, `envoy.config.route.v3.{RouteMatch, HeaderMatcher,
//! QueryParameterMatcher}`.

use std::fmt;
use std::sync::Arc;

use crate::head::{HeaderName, Headers, RequestHead};

/// Bytes of compiled program a pattern may have. Envoy's RE2 default is of the same order.
pub const PATTERN_SIZE_LIMIT_BYTES: usize = 256 * 1024;

/// A compiled regular expression that must match the whole input.
#[derive(Clone)]
pub struct Pattern {
    regex: regex::bytes::Regex,
    source: Arc<str>,
}

impl Pattern {
    /// Compiles `source`; it will have to match the whole input (as `safe_regex` does).
    ///
    /// # Errors
    /// The text of what is wrong with the expression, or that it is too large.
    pub fn new(source: &str) -> Result<Self, String> {
        // By itself first: a parenthesis too many must not end the group that anchors it.
        compile(source)?;
        let regex = compile(&format!("^(?:{source})$"))?;
        Ok(Self { regex, source: source.into() })
    }

    /// Whether the whole of `input` matches.
    #[must_use]
    pub fn matches(&self, input: &[u8]) -> bool {
        self.regex.is_match(input)
    }

    /// The expression as it was written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.source)
    }
}

/// A regular expression and what its matches are replaced with (`RegexMatchAndSubstitute`).
#[derive(Clone)]
pub struct Substitution {
    regex: regex::bytes::Regex,
    source: Arc<str>,
    replacement: Arc<str>,
    template: Arc<[u8]>,
}

impl Substitution {
    /// Compiles the pair. `\1` in `replacement` is the first group, `\\` a backslash (RE2).
    ///
    /// # Errors
    /// The text of what is wrong with either.
    pub fn new(source: &str, replacement: &str) -> Result<Self, String> {
        let regex = compile(source)?;
        let template = substitution_template(replacement, regex.captures_len())?;
        Ok(Self { regex, source: source.into(), replacement: replacement.into(), template })
    }

    /// `input` with every match replaced.
    #[must_use]
    pub fn apply(&self, input: &[u8]) -> Vec<u8> {
        self.regex.replace_all(input, &*self.template).into_owned()
    }

    /// The expression as it was written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The replacement as it was written.
    #[must_use]
    pub fn replacement(&self) -> &str {
        &self.replacement
    }
}

fn compile(source: &str) -> Result<regex::bytes::Regex, String> {
    let mut builder = regex::bytes::RegexBuilder::new(source);
    builder.size_limit(PATTERN_SIZE_LIMIT_BYTES).build().map_err(|error| error.to_string())
}

/// RE2's rewrite syntax as the `regex` crate's.
fn substitution_template(replacement: &str, groups: usize) -> Result<Arc<[u8]>, String> {
    let mut template = Vec::with_capacity(replacement.len());
    let mut bytes = replacement.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'$' => template.extend_from_slice(b"$$"),
            b'\\' => match bytes.next() {
                Some(digit @ b'0'..=b'9') if usize::from(digit - b'0') < groups => {
                    template.extend_from_slice(&[b'$', b'{', digit, b'}']);
                }
                Some(digit @ b'0'..=b'9') => {
                    return Err(format!("\\{} names a group that is not there", digit - b'0'));
                }
                Some(b'\\') => template.push(b'\\'),
                _ => return Err("a backslash must be followed by a digit or a backslash".into()),
            },
            other => template.push(other),
        }
    }
    Ok(template.into())
}

impl PartialEq for Substitution {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source && self.replacement == other.replacement
    }
}

impl fmt::Debug for Substitution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Substitution({:?} -> {:?})", self.source, self.replacement)
    }
}

/// A match over one string (`StringMatcher`).
#[derive(Clone, Debug, PartialEq)]
pub struct StringMatch {
    /// What is compared.
    pub kind: StringMatchKind,
    /// Compare without regard to ASCII case; has no effect on patterns.
    pub ignore_case: bool,
}

/// The kinds of [`StringMatch`].
#[derive(Clone, Debug, PartialEq)]
pub enum StringMatchKind {
    /// The whole string.
    Exact(Arc<str>),
    /// Its beginning.
    Prefix(Arc<str>),
    /// Its end.
    Suffix(Arc<str>),
    /// Some part of it.
    Contains(Arc<str>),
    /// All of it, by pattern.
    Pattern(Pattern),
}

impl StringMatch {
    /// An exact, case-sensitive match.
    #[must_use]
    pub fn exact(text: &str) -> Self {
        Self { kind: StringMatchKind::Exact(text.into()), ignore_case: false }
    }

    /// Whether `input` matches.
    #[must_use]
    pub fn matches(&self, input: &[u8]) -> bool {
        let same = |a: &[u8], b: &[u8]| {
            if self.ignore_case { a.eq_ignore_ascii_case(b) } else { a == b }
        };
        match &self.kind {
            StringMatchKind::Exact(text) => same(input, text.as_bytes()),
            StringMatchKind::Prefix(text) => {
                input.get(..text.len()).is_some_and(|start| same(start, text.as_bytes()))
            }
            StringMatchKind::Suffix(text) => input
                .len()
                .checked_sub(text.len())
                .is_some_and(|at| same(&input[at..], text.as_bytes())),
            StringMatchKind::Contains(text) => {
                text.is_empty() || input.windows(text.len()).any(|part| same(part, text.as_bytes()))
            }
            StringMatchKind::Pattern(pattern) => pattern.matches(input),
        }
    }
}

/// A match over one header (`HeaderMatcher`).
#[derive(Clone, Debug, PartialEq)]
pub struct HeaderMatch {
    /// The header that is looked at.
    pub name: HeaderName,
    /// What its value must be.
    pub check: HeaderCheck,
    /// Take the opposite of the result.
    pub invert: bool,
    /// A missing header counts as an empty one.
    pub treat_missing_as_empty: bool,
}

/// What a header's value must be.
#[derive(Clone, Debug, PartialEq)]
pub enum HeaderCheck {
    /// It is there (`true`) or not there (`false`).
    Present(bool),
    /// A value of it matches.
    String(StringMatch),
    /// The value is an integer in `start..end`.
    Range {
        /// First value inside.
        start: i64,
        /// First value outside.
        end: i64,
    },
}

impl HeaderMatch {
    /// That `name` is there.
    #[must_use]
    pub fn present(name: HeaderName) -> Self {
        let check = HeaderCheck::Present(true);
        Self { name, check, invert: false, treat_missing_as_empty: false }
    }

    /// Whether the request satisfies the match; pseudo headers (`:method`, `:path`) count.
    ///
    /// A missing header never satisfies a match over its value, inverted or not, unless it counts
    /// as an empty one: `HeaderUtility` of Envoy.
    #[must_use]
    pub fn matches_request(&self, head: &RequestHead) -> bool {
        if self.name.is_pseudo() {
            return self.matches_values(head.value((&self.name).into()).into_iter());
        }
        self.matches(&head.headers)
    }

    /// Whether `headers` satisfy the match. Of several values of one name each is looked at by
    /// itself and one is enough, or none may match where the match is inverted.
    #[must_use]
    pub fn matches(&self, headers: &Headers) -> bool {
        self.matches_values(headers.all(&self.name))
    }

    fn matches_values<'v>(&self, values: impl Iterator<Item = &'v [u8]>) -> bool {
        let mut values = values.peekable();
        let found = match (&self.check, values.peek()) {
            (HeaderCheck::Present(present), first) => first.is_some() == *present,
            (_, None) if !self.treat_missing_as_empty => return false,
            (_, None) => self.value_matches(b""),
            (_, Some(_)) => values.any(|value| self.value_matches(value)),
        };
        found != self.invert
    }

    fn value_matches(&self, value: &[u8]) -> bool {
        match &self.check {
            HeaderCheck::Present(present) => *present,
            HeaderCheck::String(string) => string.matches(value),
            HeaderCheck::Range { start, end } => std::str::from_utf8(value)
                .ok()
                .and_then(|text| text.parse::<i64>().ok())
                .is_some_and(|number| (*start..*end).contains(&number)),
        }
    }
}

/// A match over one query parameter (`QueryParameterMatcher`).
#[derive(Clone, Debug, PartialEq)]
pub struct QueryMatch {
    /// Name of the parameter, as it stands in the query.
    pub name: Arc<str>,
    /// What its first value must be.
    pub check: QueryCheck,
}

/// What a query parameter must be.
#[derive(Clone, Debug, PartialEq)]
pub enum QueryCheck {
    /// It is there (`true`) or not there (`false`).
    Present(bool),
    /// Its first value matches.
    String(StringMatch),
}

impl QueryMatch {
    /// Whether the query part of `path_and_query` satisfies the match.
    #[must_use]
    pub fn matches(&self, path_and_query: &[u8]) -> bool {
        let value = query_parameter(path_and_query, self.name.as_bytes());
        match &self.check {
            QueryCheck::Present(present) => value.is_some() == *present,
            QueryCheck::String(string) => value.is_some_and(|value| string.matches(value)),
        }
    }
}

/// The first value of the query parameter `name`, not decoded; empty without `=`.
#[must_use]
pub fn query_parameter<'a>(path_and_query: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let query_at = path_and_query.iter().position(|byte| *byte == b'?')? + 1;
    path_and_query[query_at..].split(|byte| *byte == b'&').find_map(|pair| {
        let equals = pair.iter().position(|byte| *byte == b'=');
        let (key, value) = match equals {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            None => (pair, &b""[..]),
        };
        (key == name).then_some(value)
    })
}

/// How the path of a request is matched (`RouteMatch.path_specifier`).
#[derive(Clone, Debug, PartialEq)]
pub enum PathMatch {
    /// The path begins so.
    Prefix(Arc<str>),
    /// The path is so.
    Exact(Arc<str>),
    /// The path is so, or begins so and goes on with a slash; never ends in a slash.
    PathSeparatedPrefix(Arc<str>),
    /// The whole path matches.
    Pattern(Pattern),
    /// A CONNECT request.
    Connect,
}

impl PathMatch {
    /// Whether `path`, without its query, matches. Patterns never ignore case.
    #[must_use]
    pub fn matches(&self, path: &[u8], ignore_case: bool, is_connect: bool) -> bool {
        let begins = |prefix: &str| {
            path.get(..prefix.len()).is_some_and(|start| {
                if ignore_case {
                    start.eq_ignore_ascii_case(prefix.as_bytes())
                } else {
                    start == prefix.as_bytes()
                }
            })
        };
        match self {
            Self::Prefix(prefix) => begins(prefix),
            Self::Exact(exact) => path.len() == exact.len() && begins(exact),
            Self::PathSeparatedPrefix(prefix) => {
                begins(prefix) && matches!(path.get(prefix.len()), None | Some(b'/'))
            }
            Self::Pattern(pattern) => pattern.matches(path),
            Self::Connect => is_connect,
        }
    }
}

/// A chance of `numerator` in `denominator` (`FractionalPercent`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fraction {
    /// Parts.
    pub numerator: u32,
    /// Of: 100, 10,000 or 1,000,000.
    pub denominator: u32,
}

impl Fraction {
    /// Always.
    pub const ALWAYS: Self = Self { numerator: 100, denominator: 100 };

    /// Whether `random`, any 64 bits, falls inside.
    #[must_use]
    pub fn contains(self, random: u64) -> bool {
        random % u64::from(self.denominator.max(1)) < u64::from(self.numerator)
    }
}

#[cfg(test)]
mod tests;
