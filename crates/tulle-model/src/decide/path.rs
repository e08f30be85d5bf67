//! The path as everything after this sees it: matched, authorised and sent are the same bytes.
//!
//! Reference: RFC 3986 §6.2.2, Envoy's `normalize_path`, `merge_slashes`,
//! `path_with_escaped_slashes_action`.

use crate::head::split_path;
use crate::http::{EscapedSlashes, PathNormalization};

/// What becomes of a path and its query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Path {
    /// It is in its one form.
    Same,
    /// This is its one form.
    Changed(Vec<u8>),
    /// The caller is sent here (307).
    Redirect(Vec<u8>),
    /// The request is refused (400).
    Refused,
}

/// The one form of a request's path, query included, as `settings` say.
#[must_use]
pub fn normalize(target: &[u8], settings: PathNormalization) -> Path {
    let (path, query) = split_path(target);
    let with_query = |mut path: Vec<u8>| {
        if let Some(query) = query {
            path.push(b'?');
            path.extend_from_slice(query);
        }
        path
    };
    let unescaped = match settings.escaped_slashes {
        EscapedSlashes::Keep => None,
        _ => unescape_slashes(path),
    };
    match (settings.escaped_slashes, &unescaped) {
        (EscapedSlashes::Reject, Some(_)) => return Path::Refused,
        (EscapedSlashes::UnescapeAndRedirect, Some(path)) => {
            return Path::Redirect(with_query(path.clone()));
        }
        _ => {}
    }
    let plain = !settings.normalize && !settings.merge_slashes && unescaped.is_none();
    if plain || target.first() != Some(&b'/') {
        return Path::Same;
    }
    let mut path = unescaped.unwrap_or_else(|| path.to_vec());
    if settings.normalize {
        match normalized(&path) {
            Some(normal) => path = normal,
            None => return Path::Refused,
        }
    }
    if settings.merge_slashes {
        path.dedup_by(|a, b| *a == b'/' && *b == b'/');
    }
    let path = with_query(path);
    if path == target { Path::Same } else { Path::Changed(path) }
}

fn unescape_slashes(path: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(path.len());
    let mut found = false;
    let mut rest = path;
    while let [first, tail @ ..] = rest {
        let (byte, used) = match rest {
            [b'%', b'2', b'f' | b'F', ..] => (b'/', 3),
            [b'%', b'5', b'c' | b'C', ..] => (b'\\', 3),
            _ => (*first, 1),
        };
        found |= used == 3;
        out.push(byte);
        rest = if used == 3 { &rest[3..] } else { tail };
    }
    found.then_some(out)
}

/// Dot segments removed, unreserved characters unescaped, backslashes turned, hexadecimal
/// digits in upper case. `None` where the path climbs above its root or an escape is broken.
fn normalized(path: &[u8]) -> Option<Vec<u8>> {
    let decoded = unescape_unreserved(path)?;
    let mut out: Vec<u8> = Vec::with_capacity(decoded.len());
    let mut segments = decoded.split(|byte| *byte == b'/');
    segments.next();
    let mut segments = segments.peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            b"." if is_last => out.push(b'/'),
            b"." => {}
            b".." => {
                let parent = out.iter().rposition(|byte| *byte == b'/')?;
                out.truncate(parent);
                if is_last {
                    out.push(b'/');
                }
            }
            segment => {
                out.push(b'/');
                out.extend_from_slice(segment);
            }
        }
    }
    Some(out)
}

fn unescape_unreserved(path: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(path.len());
    let mut bytes = path.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => out.push(b'/'),
            b'%' => {
                let (high, low) = (bytes.next()?, bytes.next()?);
                let value = hex(high)? * 16 + hex(low)?;
                if value.is_ascii_alphanumeric() || b"-._~".contains(&value) {
                    out.push(value);
                } else {
                    out.extend([b'%', high.to_ascii_uppercase(), low.to_ascii_uppercase()]);
                }
            }
            other => out.push(other),
        }
    }
    Some(out)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: Path) -> Option<String> {
        match path {
            Path::Changed(bytes) => String::from_utf8(bytes).ok(),
            Path::Same | Path::Redirect(_) | Path::Refused => None,
        }
    }

    #[test]
    fn paths_have_one_form() {
        let settings = PathNormalization { normalize: true, ..PathNormalization::default() };
        for (path, expected) in [
            ("/a/./b/../c", "/a/c"),
            ("/a/..", "/"),
            ("/a/.", "/a/"),
            ("/%61%2e%2E/b", "/a../b"),
            ("/a/%2e%2e/b?q=/../%2e", "/b?q=/../%2e"),
            ("/a%2fb", "/a%2Fb"),
            ("/a\\b", "/a/b"),
        ] {
            assert_eq!(text(normalize(path.as_bytes(), settings)).as_deref(), Some(expected));
        }
        for same in ["/a/b", "/", "//a//", "/a?b=..", "*", ""] {
            assert_eq!(normalize(same.as_bytes(), settings), Path::Same, "{same}");
        }
        for refused in ["/../a", "/a%2", "/a%zz"] {
            assert_eq!(normalize(refused.as_bytes(), settings), Path::Refused, "{refused}");
        }
    }

    #[test]
    fn slashes_are_merged_and_unescaped_as_wanted() {
        let merge = PathNormalization { merge_slashes: true, ..PathNormalization::default() };
        assert_eq!(text(normalize(b"//a//b?c//d", merge)).as_deref(), Some("/a/b?c//d"));
        let with = |escaped_slashes| PathNormalization { escaped_slashes, ..Default::default() };
        let normal = |action| normalize(b"/a%2fb%5C?x=%2f", with(action));
        let unescaped = b"/a/b\\?x=%2f".to_vec();
        assert_eq!(normal(EscapedSlashes::Keep), Path::Same);
        assert_eq!(normal(EscapedSlashes::Reject), Path::Refused);
        let redirect = Path::Redirect(unescaped.clone());
        assert_eq!(normal(EscapedSlashes::UnescapeAndRedirect), redirect);
        assert_eq!(normal(EscapedSlashes::UnescapeAndForward), Path::Changed(unescaped));
        let plain = normalize(b"/a%20b", with(EscapedSlashes::Reject));
        assert_eq!(plain, Path::Same);
    }
}
