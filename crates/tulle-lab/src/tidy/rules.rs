//! Rules that need one file only: budgets, names, words.

use super::functions::{self, Function};
use super::{Finding, SourceFile};

/// Lines of a source file, its tests not counted.
const FILE_LINES: usize = 600;
/// Lines of a function's body that are neither blank nor comment.
const FUNCTION_LINES: usize = 70;
/// Parameters of a function, `self` included.
const PARAMETERS: usize = 5;
/// Characters of a line.
const LINE_COLUMNS: usize = 100;
/// How many lines above an `expect` its comment may stand.
const INVARIANT_DISTANCE: usize = 3;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 6] = ["utils", "util", "helpers", "common", "misc", "manager"];
/// Type endings that say nothing; the exceptions are names that Envoy and tonic gave.
const EMPTY_SUFFIXES: [&str; 3] = ["Manager", "Info", "Data"];
const SUFFIX_EXCEPTIONS: [&str; 2] = ["HttpConnectionManager", "ConnectInfo"];
/// Where bytes from the network are read: no `unwrap`, no `expect`, whatever the comment says.
const NEVER_PANIC: [&str; 4] = ["/http/codec", "/decode", "/listener", "/sniff"];
/// Directories that exist on somebody's machine only.
const LOCAL_ROOTS: [&str; 4] = ["home", "Users", "root", "work"];
const UNFINISHED: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")];

/// Runs every rule over one file.
pub(super) fn check_file(file: &SourceFile) -> Vec<Finding> {
    let mut findings = Findings { file, found: Vec::new() };
    if !file.is_foreign() {
        findings.local_paths();
        findings.unfinished_work();
        if file.is_rust() {
            findings.rust();
        }
    }
    findings.found
}

struct Findings<'a> {
    file: &'a SourceFile,
    found: Vec<Finding>,
}

impl Findings<'_> {
    fn rust(&mut self) {
        self.file_length();
        self.line_width();
        self.functions();
        self.module_names();
        self.module_doc();
        self.type_names();
        self.panics();
        self.attributes_without_reason();
    }

    fn report(&mut self, line: usize, rule: &'static str, message: String) {
        self.found.push(Finding { path: self.file.path.clone(), line, rule, message });
    }

    fn file_length(&mut self) {
        if self.file.is_test() {
            return;
        }
        let count = self
            .file
            .numbered_lines()
            .filter(|(number, _)| !self.file.is_test_line(*number))
            .count();
        if count > FILE_LINES {
            let message = format!("{count} lines without tests, {FILE_LINES} allowed: split it");
            self.report(0, "file-length", message);
        }
    }

    fn line_width(&mut self) {
        for (number, line) in self.file.numbered_lines() {
            let width = line.chars().count();
            if width > LINE_COLUMNS {
                let message = format!("{width} columns, {LINE_COLUMNS} allowed");
                self.report(number, "line-width", message);
            }
        }
    }

    fn functions(&mut self) {
        for function in functions::find(&self.file.masked) {
            self.function(&function);
        }
    }

    fn function(&mut self, function: &Function) {
        let Function { name, line, parameters, dictated, body_lines } = function;
        if *body_lines > FUNCTION_LINES {
            let message = format!("fn {name} has {body_lines} lines, {FUNCTION_LINES} allowed");
            self.report(*line, "function-length", message);
        }
        if *parameters > PARAMETERS && !dictated {
            let message =
                format!("fn {name} has {parameters} parameters, {PARAMETERS} allowed: group them");
            self.report(*line, "parameter-count", message);
        }
        if name.starts_with(concat!("get", "_")) && !dictated && !self.file.is_test_line(*line) {
            let message = format!("fn {name}: name it by what it returns, without the prefix");
            self.report(*line, "getter-name", message);
        }
    }

    fn module_names(&mut self) {
        let path = &self.file.path;
        if path.ends_with("/mod.rs") && !path.contains("/tests/") {
            self.report(
                0,
                "mod-rs",
                "name the module's file after it, beside its directory".into(),
            );
        }
        let parts = path.trim_end_matches(".rs").split('/');
        for part in parts.filter(|part| EMPTY_NAMES.contains(part)) {
            let message = format!("a module named {part} says nothing: name what it holds");
            self.report(0, "module-name", message);
        }
        for (number, line) in numbered(&self.file.masked) {
            let declared = line.trim().trim_start_matches("pub ").strip_prefix("mod ");
            let name = declared.map_or("", |rest| rest.trim_end_matches([';', '{', ' ']));
            if EMPTY_NAMES.contains(&name) {
                let message = format!("a module named {name} says nothing: name what it holds");
                self.report(number, "module-name", message);
            }
        }
    }

    fn module_doc(&mut self) {
        let nested_test = self.file.path.ends_with("/tests.rs");
        if !nested_test && !self.file.text.starts_with("//!") {
            let message = "begin with `//!` and say the module's place in its story".into();
            self.report(1, "module-doc", message);
        }
    }

    fn type_names(&mut self) {
        for (number, line) in numbered(&self.file.masked) {
            let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            let keyword = ["struct", "enum", "trait"];
            if words.by_ref().find(|word| keyword.contains(word)).is_none() {
                continue;
            }
            let name = words.next().unwrap_or_default();
            let empty = EMPTY_SUFFIXES.iter().any(|s| name.ends_with(s) && name != *s);
            if empty && !SUFFIX_EXCEPTIONS.contains(&name) {
                let message = format!("{name}: the last word says nothing, drop it");
                self.report(number, "type-name", message);
            }
        }
    }

    fn panics(&mut self) {
        let never = NEVER_PANIC.iter().any(|part| self.file.path.contains(part));
        let lines: Vec<&str> = self.file.text.lines().collect();
        for (number, line) in numbered(&self.file.masked) {
            let panics = line.contains(".unwrap()") || line.contains(".expect(\"");
            if !panics || self.file.is_test_line(number) {
                continue;
            }
            let above = &lines[number.saturating_sub(1 + INVARIANT_DISTANCE)..number];
            let explained = above.iter().any(|line| explains(line));
            if never {
                let message = "bytes from the network never panic: return an error".into();
                self.report(number, "panic-on-network", message);
            } else if !explained {
                let message = "say in a comment above why this cannot fail".into();
                self.report(number, "panic-unexplained", message);
            }
        }
    }

    fn attributes_without_reason(&mut self) {
        let lines: Vec<&str> = self.file.masked.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let start = line.trim_start();
            let silences = ["#[allow(", "#![allow(", "#[expect(", "#![expect("];
            if !silences.iter().any(|prefix| start.starts_with(prefix)) {
                continue;
            }
            let attribute: String =
                lines[index..].iter().take(4).map(|line| format!("{line}\n")).collect();
            let end = attribute.find(")]").unwrap_or(attribute.len());
            if !attribute[..end].contains("reason") {
                let message = "a silenced lint says why: add `reason = \"…\"`".into();
                self.report(index + 1, "silent-lint", message);
            }
        }
    }

    fn unfinished_work(&mut self) {
        for (number, line) in self.file.numbered_lines() {
            let Some(word) = UNFINISHED.iter().find(|word| line.contains(**word)) else {
                continue;
            };
            let tracked = line.split('#').skip(1).any(|rest| rest.starts_with(char::is_numeric));
            if !tracked {
                let message = format!("{word} without an issue number: do it, or open an issue");
                self.report(number, "unfinished", message);
            }
        }
    }

    fn local_paths(&mut self) {
        for (number, line) in self.file.numbered_lines() {
            if let Some(path) = local_path(line) {
                let message = format!("{path} exists on one machine only");
                self.report(number, "local-path", message);
            }
        }
    }
}

/// Whether a line carries an ordinary comment or a reason; documentation explains something else.
fn explains(line: &str) -> bool {
    let documentation = line.trim_start().starts_with("///") || line.starts_with("//!");
    (line.contains("//") && !documentation) || line.contains("reason =")
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

/// The first absolute path below somebody's directory, if `line` has one.
fn local_path(line: &str) -> Option<String> {
    LOCAL_ROOTS.iter().find_map(|root| {
        let pattern = format!("/{root}/");
        let at = line.find(&pattern)?;
        let continues =
            line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-~$})]*".contains(c));
        let names =
            line[at + pattern.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '.');
        (!continues && names).then_some(pattern)
    })
}
