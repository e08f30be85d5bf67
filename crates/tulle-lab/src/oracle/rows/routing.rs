//! Virtual hosts, matches, actions, rewrites and header edits.

use crate::backend::http1::Answer;
use crate::oracle::{Kind, Row};

pub(super) fn rows() -> Vec<Row> {
    [hosts(), paths(), headers(), actions(), rewrites(), edits()].concat()
}

/// The upstream that answers is `a`.
fn at_a(row: Row) -> Row {
    row.answer("a", [Answer::status(200, "a")])
}

fn hosts() -> Vec<Row> {
    vec![
        Row::new("host-exact", "a virtual host is chosen by its exact domain")
            .get("exact.test", "/")
            .get("nobody.test", "/laboratory"),
        Row::new("host-case", "the case of an authority does not matter").get("EXACT.Test", "/"),
        Row::new("host-port", "the port is part of the authority that is matched")
            .get("port.test:8080", "/")
            .get("port.test", "/laboratory"),
        Row::new("host-suffix", "a virtual host is chosen by a suffix of at least one character")
            .get("a.b.suffix.test", "/")
            .get("suffix.test", "/laboratory"),
        Row::new("host-suffix-longest", "the longest suffix wins")
            .get("much-longer.suffix.test", "/"),
        Row::new("host-prefix", "a virtual host is chosen by a prefix").get("prefix.org", "/"),
        Row::new("host-none", "without a virtual host the answer is 404")
            .kind(Kind::Error)
            .at("strict")
            .get("other.test", "/"),
    ]
}

fn paths() -> Vec<Row> {
    let at = |name, behaviour, hit: &str, miss: &str| {
        Row::new(name, behaviour).get("match.test", hit).get("match.test", miss)
    };
    vec![
        at("path-exact", "an exact path ignores the query", "/exact?a=b", "/exact/"),
        at("path-prefix", "a prefix matches inside a segment", "/prefixed", "/prefi"),
        at("path-separated-prefix", "a separated prefix ends at a slash", "/part/x", "/parts"),
        at("path-regex", "a regex matches the whole path", "/regex/12", "/regex/12x"),
        at("path-case", "case is ignored where configured", "/case-x", "/cas"),
        at(
            "query-string",
            "a query parameter matches a string",
            "/q-string?b&q=ab",
            "/q-string?q=b",
        ),
        at(
            "query-present",
            "a query parameter is present without a value",
            "/q-present?q",
            "/q-present?p=q",
        ),
        at("match-fraction", "a fraction of nothing matches nothing", "/exact", "/fraction"),
        Row::new("head-direct", "a direct response to HEAD keeps its length and has no body")
            .raw("HEAD /exact HTTP/1.1\r\nhost: match.test\r\n\r\n", "HEAD")
            .get("match.test", "/exact"),
        Row::new("head-none", "HEAD of what is not found has no body")
            .kind(Kind::Error)
            .raw("HEAD /nowhere HTTP/1.1\r\nhost: match.test\r\n\r\n", "HEAD")
            .get("match.test", "/exact"),
        Row::new("route-none", "without a route the answer is 404")
            .kind(Kind::Error)
            .get("match.test", "/"),
    ]
}

/// A header matcher: the row, the behaviour, the value that matches and one that does not.
type HeaderCase = (&'static str, &'static str, Option<&'static str>, Option<&'static str>);

const HEADERS: [HeaderCase; 10] = [
    ("header-exact", "a header matches exactly", Some("yes-it-is"), Some("yes")),
    ("header-case", "a header value matches in any case", Some("vALUE"), Some("valu")),
    ("header-prefix", "a header matches by prefix", Some("prefix"), Some("apre")),
    ("header-suffix", "a header matches by suffix", Some("suffix"), Some("fixx")),
    ("header-contains", "a header contains", Some("middle"), Some("midle")),
    ("header-regex", "a header matches a regex wholly", Some("v12"), Some("v12x")),
    ("header-range", "a header is a number in a half-open range", Some("-5"), Some("10")),
    ("header-present", "a header is present", Some(""), None),
    ("header-absent", "a header is absent", None, Some("x")),
    ("header-missing", "a missing header counts as empty", None, Some("x")),
];

fn headers() -> Vec<Row> {
    let line = |value: Option<&str>| value.map(|v| format!("x-h: {v}\r\n")).unwrap_or_default();
    let cases = HEADERS.into_iter().map(|(name, behaviour, hit, miss)| {
        let path = name.replace("header-", "/h-");
        let row = Row::new(name, behaviour).ask("match.test", &path, &line(hit));
        row.ask("match.test", &path, &line(miss))
    });
    let others = [
        Row::new("header-several-values", "equal names are joined by a comma")
            .ask("match.test", "/h-several", "x-h: a\r\nx-h: b\r\n")
            .ask("match.test", "/h-several", "x-h: a\r\n"),
        Row::new("header-invert", "a match is inverted; a missing header has no value")
            .ask("match.test", "/h-invert", "x-h: yes\r\n")
            .ask("match.test", "/h-invert", "x-h: no\r\n")
            .ask("match.test", "/h-invert", ""),
        Row::new("header-invert-missing", "a header that counts as empty has another value")
            .ask("match.test", "/h-not", "")
            .ask("match.test", "/h-not", "x-h: no\r\n"),
        Row::new("header-method", "pseudo headers match like headers")
            .raw("DELETE /h-method HTTP/1.1\r\nhost: match.test\r\n\r\n", "DELETE")
            .get("match.test", "/h-method"),
    ];
    cases.chain(others).collect()
}

fn actions() -> Vec<Row> {
    let redirect = |name, behaviour, path: &str| Row::new(name, behaviour).get("act.test", path);
    vec![
        at_a(Row::new("weighted-zero", "a cluster of weight 0 is never chosen"))
            .get("act.test", "/weighted"),
        at_a(Row::new("weighted-edits", "a weighted cluster edits its own requests"))
            .get("act.test", "/weighted/edits"),
        at_a(Row::new("cluster-header", "a header names the cluster"))
            .ask("act.test", "/by-header", "x-cluster: a\r\n")
            .answer("b", [Answer::status(200, "b")])
            .ask("act.test", "/by-header", "x-cluster: b\r\n"),
        Row::new("cluster-unknown", "a cluster nobody knows is 503").kind(Kind::Error).ask(
            "act.test",
            "/by-header",
            "x-cluster: none\r\n",
        ),
        Row::new("cluster-unknown-404", "a cluster nobody knows is 404 where configured")
            .kind(Kind::Error)
            .ask("act.test", "/unknown-404", "x-cluster: none\r\n"),
        redirect(
            "redirect-https",
            "a redirect to https keeps host and path",
            "/redirect-https?a=b",
        ),
        redirect("redirect-host-port", "a redirect changes host and port", "/redirect-host"),
        redirect(
            "redirect-path",
            "a redirect's own query replaces the request's",
            "/redirect-path?a=b",
        ),
        redirect("redirect-prefix", "a redirect rewrites a prefix", "/redirect-prefix/x?a=b"),
        redirect("redirect-regex", "a redirect rewrites by regex", "/redirect-regex/a/b?c=d"),
        redirect("redirect-strip-query", "a redirect strips the query", "/redirect-strip?a=b"),
        redirect(
            "direct-response",
            "a direct response has status, body and edited header",
            "/direct",
        ),
        redirect("direct-response-empty", "a direct response without a body", "/direct-empty"),
    ]
}

fn rewrites() -> Vec<Row> {
    let to_a = |name, behaviour, path: &str| at_a(Row::new(name, behaviour)).get("act.test", path);
    vec![
        to_a(
            "rewrite-prefix",
            "a prefix is rewritten, rest and query stay",
            "/rewrite-prefix/x?a=b",
        ),
        to_a(
            "rewrite-regex",
            "a path is rewritten by regex everywhere, the query stays",
            "/rewrite-regex/v1/v2/?a=/v1/",
        ),
        to_a(
            "rewrite-whole-path",
            "an exact match in any case is rewritten whole",
            "/Rewrite-Case/?a=b",
        ),
        to_a("rewrite-host", "the host is rewritten", "/host-literal"),
        to_a("rewrite-host-forwarded", "the host before a rewrite is forwarded", "/host-forwarded"),
        to_a("rewrite-host-path", "the host is taken from the path", "/host-path/shop?a=b"),
        to_a("expected-timeout", "the upstream is told the route's timeout", "/timeout-header"),
        Row::new("rewrite-host-auto", "the host is that of the endpoint's name")
            .get("act.test", "/host-auto")
            .answer("dns", [Answer::status(200, "dns")]),
        at_a(Row::new("rewrite-host-header", "the host is taken from a header")).ask(
            "act.test",
            "/host-header",
            "x-new-host: fresh.test\r\n",
        ),
    ]
}

fn edits() -> Vec<Row> {
    let edit = |name, behaviour, path: &str, lines: &str| {
        at_a(Row::new(name, behaviour)).ask("edit.test", path, lines)
    };
    let internal = "HTTP/1.1 200 OK\r\nx-internal: 1\r\nx-shown: 1\r\ncontent-length: 0\r\n\r\n";
    let up = "HTTP/1.1 201 Created\r\nx-up: above\r\ncontent-length: 0\r\n\r\n";
    vec![
        edit("edit-levels", "every level appends, in its order", "/levels", "x-level: own\r\n"),
        edit(
            "edit-precedence",
            "the most specific level wins where configured",
            "/levels/over",
            "x-over: own\r\n",
        ),
        edit(
            "edit-add-if-absent",
            "a header is added only where absent",
            "/absent",
            "x-there: old\r\n",
        ),
        edit(
            "edit-overwrite-if-exists",
            "a header is overwritten only where present",
            "/overwrite",
            "x-there: old\r\nx-there: older\r\n",
        ),
        Row::new("edit-remove", "headers are removed both ways, in any case")
            .ask("edit.test", "/remove", "X-Secret: 1\r\nx-other: 2\r\nx-kept: 3\r\n")
            .answer("a", [Answer::raw(internal)]),
        edit("edit-empty", "an empty value is kept only where configured", "/empty", ""),
        edit(
            "edit-format",
            "request edits are formatted from the request",
            "/format",
            "x-there: 12345\r\n",
        ),
        Row::new("edit-format-response", "response edits are formatted from the response")
            .get("edit.test", "/format/response")
            .answer("a", [Answer::raw(up)]),
        Row::new("edit-local-reply", "a local reply is edited and says its flag")
            .kind(Kind::Error)
            .get("edit.test", "/reply"),
    ]
}
