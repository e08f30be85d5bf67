//! One name has one form: what is matched, authorised and sent are the same bytes.

use tulle_model::decide::path::{Path, normalize};
use tulle_model::head::CanonicalAuthority;
use tulle_model::http::{EscapedSlashes, PathNormalization};

/// An authority: reading its one form gives it again.
pub fn check_authority(bytes: &[u8]) {
    let Ok(once) = CanonicalAuthority::parse(bytes) else { return };
    let is_v6 = once.address.is_some_and(|address| address.is_ipv6());
    let host = if is_v6 { format!("[{}]", once.host) } else { once.host.to_string() };
    let text = match once.port {
        Some(port) => format!("{host}:{port}"),
        None => host,
    };
    let twice = CanonicalAuthority::parse(text.as_bytes());
    assert_eq!(twice.as_ref(), Ok(&once), "{text}");
    let evil = |byte: u8| byte.is_ascii_uppercase() || byte <= b' ' || b"@/?#\\".contains(&byte);
    assert!(!text.bytes().any(evil), "{text}");
    let upper = bytes.to_ascii_uppercase();
    assert_eq!(CanonicalAuthority::parse(&upper).as_ref(), Ok(&once), "case makes no name");
}

/// A path under settings that the first byte chooses: its one form is the form of itself.
pub fn check_path(data: &[u8]) {
    let Some((choice, path)) = data.split_first() else { return };
    let settings = PathNormalization {
        normalize: choice & 1 != 0,
        merge_slashes: choice & 2 != 0,
        escaped_slashes: match choice >> 2 & 3 {
            0 => EscapedSlashes::Keep,
            1 => EscapedSlashes::Reject,
            2 => EscapedSlashes::UnescapeAndRedirect,
            _ => EscapedSlashes::UnescapeAndForward,
        },
    };
    let text = String::from_utf8_lossy(path);
    let once = match normalize(path, settings) {
        Path::Same => path.to_vec(),
        Path::Changed(once) => once,
        Path::Redirect(to) => {
            // Who follows it is not sent on for ever.
            assert!(!matches!(normalize(&to, settings), Path::Redirect(next) if next == to));
            return;
        }
        Path::Refused => return,
    };
    let twice = normalize(&once, settings);
    assert!(twice == Path::Same, "{text}: {} then {twice:?}", String::from_utf8_lossy(&once));
    if path.first() == Some(&b'/') {
        assert_eq!(once.first(), Some(&b'/'), "{text} leaves its root");
        check_form(&once, settings);
    }
}

fn check_form(once: &[u8], settings: PathNormalization) {
    let text = String::from_utf8_lossy(once);
    let path = once.split(|byte| *byte == b'?').next().unwrap_or_default();
    if settings.normalize {
        let mut segments = path.split(|byte| *byte == b'/');
        assert!(!segments.any(|segment| segment == b"." || segment == b".."), "{text}");
        assert!(!path.contains(&b'\\'), "{text}");
    }
    if settings.merge_slashes {
        assert!(!path.windows(2).any(|pair| pair == b"//"), "{text}");
    }
}
