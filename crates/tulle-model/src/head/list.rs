//! Comma-separated field values (RFC 9110 §5.6.1): `Connection`, `TE`, `Transfer-Encoding`, ….

use super::grammar::trim_ows;

/// The non-empty elements of a list, in order, without the white space around them.
#[derive(Clone, Debug)]
pub struct Tokens<'a> {
    rest: Option<&'a [u8]>,
}

/// Iterates over the elements of one list value. Commas inside quotes are not understood: use it
/// only for lists of tokens.
pub fn tokens_of(value: &[u8]) -> Tokens<'_> {
    Tokens { rest: Some(value) }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            let rest = self.rest?;
            let element = match rest.iter().position(|&byte| byte == b',') {
                Some(comma) => {
                    self.rest = Some(&rest[comma + 1..]);
                    &rest[..comma]
                }
                None => {
                    self.rest = None;
                    rest
                }
            };
            let element = trim_ows(element);
            if !element.is_empty() {
                return Some(element);
            }
        }
    }
}
