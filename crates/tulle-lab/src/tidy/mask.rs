//! Blanks what a rule must not read: comments become spaces, the inside of literals underscores.
//! Line and column of everything else stay as they are.

/// Returns `source` with comments and literal contents blanked, byte for byte as long.
pub(super) fn mask(source: &str) -> String {
    let mut masker = Masker { bytes: source.as_bytes(), at: 0, out: Vec::new() };
    masker.run();
    // Every byte outside ASCII sits in a comment or a literal (blanked) or is copied unchanged
    // with its whole character, so this never replaces anything in practice.
    String::from_utf8_lossy(&masker.out).into_owned()
}

struct Masker<'a> {
    bytes: &'a [u8],
    at: usize,
    out: Vec<u8>,
}

impl Masker<'_> {
    fn run(&mut self) {
        while self.at < self.bytes.len() {
            if self.starts_with(b"//") {
                self.blank_while(b' ', |masker| masker.bytes[masker.at] != b'\n');
            } else if self.starts_with(b"/*") {
                self.block_comment();
            } else if let Some(hashes) = self.raw_string_hashes() {
                self.raw_string(hashes);
            } else if self.bytes[self.at] == b'"' {
                self.quoted(b'"');
            } else if self.bytes[self.at] == b'\'' && self.is_char_literal() {
                self.quoted(b'\'');
            } else {
                self.copy();
            }
        }
    }

    fn starts_with(&self, prefix: &[u8]) -> bool {
        self.bytes[self.at..].starts_with(prefix)
    }

    fn copy(&mut self) {
        self.out.push(self.bytes[self.at]);
        self.at += 1;
    }

    fn blank(&mut self, with: u8) {
        let byte = self.bytes[self.at];
        self.out.push(if byte == b'\n' { b'\n' } else { with });
        self.at += 1;
    }

    fn blank_while(&mut self, with: u8, condition: impl Fn(&Self) -> bool) {
        while self.at < self.bytes.len() && condition(self) {
            self.blank(with);
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0usize;
        while self.at < self.bytes.len() {
            let step = if self.starts_with(b"/*") {
                depth += 1;
                2
            } else if self.starts_with(b"*/") {
                depth -= 1;
                2
            } else {
                1
            };
            (0..step).for_each(|_| self.blank(b' '));
            if depth == 0 {
                return;
            }
        }
    }

    /// The number of `#` of a raw string that begins here, if one does.
    fn raw_string_hashes(&self) -> Option<usize> {
        let inside_word = self.at > 0 && is_word(self.bytes[self.at - 1]);
        if self.bytes[self.at] != b'r' || (inside_word && self.bytes[self.at - 1] != b'b') {
            return None;
        }
        let rest = &self.bytes[self.at + 1..];
        let hashes = rest.iter().take_while(|byte| **byte == b'#').count();
        (rest.get(hashes) == Some(&b'"')).then_some(hashes)
    }

    fn raw_string(&mut self, hashes: usize) {
        (0..hashes + 2).for_each(|_| self.copy());
        let mut end = vec![b'"'];
        end.resize(hashes + 1, b'#');
        self.blank_while(b'_', |masker| !masker.starts_with(&end));
        (0..end.len().min(self.bytes.len() - self.at)).for_each(|_| self.copy());
    }

    fn quoted(&mut self, quote: u8) {
        self.copy();
        while self.at < self.bytes.len() && self.bytes[self.at] != quote {
            if self.bytes[self.at] == b'\\' && self.at + 1 < self.bytes.len() {
                self.blank(b'_');
            }
            self.blank(b'_');
        }
        if self.at < self.bytes.len() {
            self.copy();
        }
    }

    /// Tells `'a'` and `'\n'` from the lifetime `'a`.
    fn is_char_literal(&self) -> bool {
        let rest = &self.bytes[self.at + 1..];
        match rest.first() {
            Some(b'\\') => true,
            Some(first) if first.is_ascii() => rest.get(1) == Some(&b'\''),
            Some(_) => true,
            None => false,
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}
