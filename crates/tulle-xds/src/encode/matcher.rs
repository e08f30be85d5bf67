//! Matchers over strings, headers and query parameters.

use tulle_model::matcher::{
    HeaderCheck, HeaderMatch, Pattern, QueryCheck, QueryMatch, StringMatch, StringMatchKind,
    Substitution,
};

use super::value::header_name;
use crate::proto::envoy::config::route::v3 as route;
use crate::proto::envoy::r#type::matcher::v3 as matcher;
use crate::proto::envoy::r#type::v3::Int64Range;

/// A match over one string.
pub fn string(string: &StringMatch) -> matcher::StringMatcher {
    use matcher::string_matcher::MatchPattern;
    let StringMatch { kind, ignore_case } = string;
    let pattern = match kind {
        StringMatchKind::Exact(text) => MatchPattern::Exact(text.to_string()),
        StringMatchKind::Prefix(text) => MatchPattern::Prefix(text.to_string()),
        StringMatchKind::Suffix(text) => MatchPattern::Suffix(text.to_string()),
        StringMatchKind::Contains(text) => MatchPattern::Contains(text.to_string()),
        StringMatchKind::Pattern(pattern) => MatchPattern::SafeRegex(self::pattern(pattern)),
    };
    matcher::StringMatcher { ignore_case: *ignore_case, match_pattern: Some(pattern) }
}

/// A regular expression for the whole input.
pub fn pattern(pattern: &Pattern) -> matcher::RegexMatcher {
    matcher::RegexMatcher { regex: pattern.source().to_owned(), engine_type: None }
}

/// A regular expression and what its matches are replaced with.
pub fn substitution(substitution: &Substitution) -> matcher::RegexMatchAndSubstitute {
    let regex = substitution.source().to_owned();
    matcher::RegexMatchAndSubstitute {
        pattern: Some(matcher::RegexMatcher { regex, engine_type: None }),
        substitution: substitution.replacement().to_owned(),
    }
}

/// A match over one header.
pub fn header(header: &HeaderMatch) -> route::HeaderMatcher {
    use route::header_matcher::HeaderMatchSpecifier as Kind;
    let HeaderMatch { name, check, invert, treat_missing_as_empty } = header;
    let specifier = match check {
        HeaderCheck::Present(present) => Kind::PresentMatch(*present),
        HeaderCheck::String(string) => Kind::StringMatch(self::string(string)),
        HeaderCheck::Range { start, end } => {
            Kind::RangeMatch(Int64Range { start: *start, end: *end })
        }
    };
    route::HeaderMatcher {
        name: header_name(name),
        invert_match: *invert,
        treat_missing_header_as_empty: *treat_missing_as_empty,
        header_match_specifier: Some(specifier),
    }
}

/// A match over one query parameter.
pub fn query(query: &QueryMatch) -> route::QueryParameterMatcher {
    use route::query_parameter_matcher::QueryParameterMatchSpecifier as Kind;
    let QueryMatch { name, check } = query;
    let specifier = match check {
        QueryCheck::Present(present) => Kind::PresentMatch(*present),
        QueryCheck::String(string) => Kind::StringMatch(self::string(string)),
    };
    route::QueryParameterMatcher {
        name: name.to_string(),
        query_parameter_match_specifier: Some(specifier),
    }
}
