//! Matchers over strings, headers and query parameters.

use tulle_model::matcher::{
    HeaderCheck, HeaderMatch, Pattern, QueryCheck, QueryMatch, StringMatch, StringMatchKind,
    Substitution,
};

use super::value::header_name;
use crate::fields;
use crate::fields::At;
use crate::proto::envoy::config::route::v3 as route;
use crate::proto::envoy::r#type::matcher::v3 as matcher;
use crate::proto::envoy::r#type::v3::Int64Range;

/// A match over one string.
pub fn string(message: matcher::StringMatcher, at: &At<'_>) -> Option<StringMatch> {
    use matcher::string_matcher::MatchPattern;
    fields!(at, message => matcher::StringMatcher ["envoy.type.matcher.v3.StringMatcher"] {
        used: ignore_case, match_pattern;
        variants: custom "matchers are not extended";
    });
    let kind = match match_pattern {
        Some(MatchPattern::Exact(text)) => StringMatchKind::Exact(text.into()),
        Some(MatchPattern::Prefix(text)) => StringMatchKind::Prefix(filled(text, at, "prefix")?),
        Some(MatchPattern::Suffix(text)) => StringMatchKind::Suffix(filled(text, at, "suffix")?),
        Some(MatchPattern::Contains(text)) => {
            StringMatchKind::Contains(filled(text, at, "contains")?)
        }
        Some(MatchPattern::SafeRegex(regex)) => {
            StringMatchKind::Pattern(pattern(regex, &at.field("safe_regex"))?)
        }
        Some(MatchPattern::Custom(_)) => {
            at.refuse::<matcher::StringMatcher>("custom");
            return None;
        }
        None => return at.fail("says nothing to compare with"),
    };
    Some(StringMatch { kind, ignore_case })
}

fn filled(text: String, at: &At<'_>, name: &str) -> Option<std::sync::Arc<str>> {
    if text.is_empty() {
        return at.field(name).fail("has to have at least one character");
    }
    Some(text.into())
}

fn expression(message: matcher::RegexMatcher, at: &At<'_>) -> String {
    use matcher::regex_matcher::{EngineType, GoogleRe2};
    fields!(at, message => matcher::RegexMatcher ["envoy.type.matcher.v3.RegexMatcher"] {
        used: regex, engine_type;
    });
    if let Some(EngineType::GoogleRe2(engine)) = engine_type {
        let at = at.field("google_re2");
        fields!(at, engine => GoogleRe2 ["envoy.type.matcher.v3.RegexMatcher.GoogleRE2"] {
            warned: max_program_size "the size of every program is limited";
        });
    }
    regex
}

/// A regular expression for the whole input.
pub fn pattern(message: matcher::RegexMatcher, at: &At<'_>) -> Option<Pattern> {
    match Pattern::new(&expression(message, at)) {
        Ok(pattern) => Some(pattern),
        Err(text) => at.field("regex").fail(text),
    }
}

/// A regular expression and what its matches are replaced with.
pub fn substitution(
    message: matcher::RegexMatchAndSubstitute,
    at: &At<'_>,
) -> Option<Substitution> {
    fields!(at, message => matcher::RegexMatchAndSubstitute
        ["envoy.type.matcher.v3.RegexMatchAndSubstitute"] {
        used: pattern, substitution;
    });
    let Some(pattern) = pattern else {
        return at.field("pattern").fail("is missing");
    };
    let source = expression(pattern, &at.field("pattern"));
    match Substitution::new(&source, &substitution) {
        Ok(substitution) => Some(substitution),
        Err(text) => at.fail(text),
    }
}

/// A match over one header.
pub fn header(message: route::HeaderMatcher, at: &At<'_>) -> Option<HeaderMatch> {
    use route::header_matcher::HeaderMatchSpecifier as Kind;
    fields!(at, message => route::HeaderMatcher ["envoy.config.route.v3.HeaderMatcher"] {
        used: name, invert_match, treat_missing_header_as_empty, header_match_specifier;
    });
    let text = |kind| HeaderCheck::String(StringMatch { kind, ignore_case: false });
    let check = match header_match_specifier {
        None => HeaderCheck::Present(true),
        Some(Kind::PresentMatch(present)) => HeaderCheck::Present(present),
        Some(Kind::ExactMatch(exact)) => text(StringMatchKind::Exact(exact.into())),
        Some(Kind::PrefixMatch(prefix)) => {
            text(StringMatchKind::Prefix(filled(prefix, at, "prefix_match")?))
        }
        Some(Kind::SuffixMatch(suffix)) => {
            text(StringMatchKind::Suffix(filled(suffix, at, "suffix_match")?))
        }
        Some(Kind::ContainsMatch(part)) => {
            text(StringMatchKind::Contains(filled(part, at, "contains_match")?))
        }
        Some(Kind::SafeRegexMatch(regex)) => {
            text(StringMatchKind::Pattern(pattern(regex, &at.field("safe_regex_match"))?))
        }
        Some(Kind::StringMatch(message)) => {
            HeaderCheck::String(string(message, &at.field("string_match"))?)
        }
        Some(Kind::RangeMatch(message)) => {
            let at = at.field("range_match");
            fields!(at, message => Int64Range ["envoy.type.v3.Int64Range"] { used: start, end; });
            HeaderCheck::Range { start, end }
        }
    };
    let name = header_name(&name, &at.field("name"))?;
    Some(HeaderMatch {
        name,
        check,
        invert: invert_match,
        treat_missing_as_empty: treat_missing_header_as_empty,
    })
}

/// A match over one query parameter.
pub fn query(message: route::QueryParameterMatcher, at: &At<'_>) -> Option<QueryMatch> {
    use route::query_parameter_matcher::QueryParameterMatchSpecifier as Kind;
    fields!(at, message => route::QueryParameterMatcher
        ["envoy.config.route.v3.QueryParameterMatcher"] {
        used: name, query_parameter_match_specifier;
    });
    let check = match query_parameter_match_specifier {
        None => QueryCheck::Present(true),
        Some(Kind::PresentMatch(present)) => QueryCheck::Present(present),
        Some(Kind::StringMatch(message)) => {
            QueryCheck::String(string(message, &at.field("string_match"))?)
        }
    };
    Some(QueryMatch { name: filled(name, at, "name")?, check })
}
