//! The query part of a request target, as route matching and hash policies read it.

/// Splits path-and-query at the first `?`; the second part is `None` without one.
pub fn split_path(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    match target.iter().position(|&byte| byte == b'?') {
        Some(mark) => (&target[..mark], Some(&target[mark + 1..])),
        None => (target, None),
    }
}

/// The parameters of a query in order: `name[=value]` between `&`, not percent-decoded. A
/// parameter without `=` has an empty value; empty ones (`&&`) are left out.
#[derive(Clone, Debug)]
pub struct QueryParams<'a> {
    rest: &'a [u8],
}

impl<'a> QueryParams<'a> {
    /// Over the bytes after `?`.
    pub fn new(query: &'a [u8]) -> Self {
        QueryParams { rest: query }
    }

    /// The value of the first parameter with this name.
    pub fn first(mut self, name: &[u8]) -> Option<&'a [u8]> {
        self.find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

impl<'a> Iterator for QueryParams<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let end = self.rest.iter().position(|&byte| byte == b'&').unwrap_or(self.rest.len());
            let pair = &self.rest[..end];
            self.rest = self.rest.get(end + 1..).unwrap_or(b"");
            if pair.is_empty() {
                continue;
            }
            return Some(match pair.iter().position(|&byte| byte == b'=') {
                Some(mark) => (&pair[..mark], &pair[mark + 1..]),
                None => (pair, b""),
            });
        }
        None
    }
}
