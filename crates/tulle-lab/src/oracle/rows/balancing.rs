//! Which endpoint takes a request: turns, shares, hashes and the cookies that go with them.

use crate::oracle::{Kind, Row};

pub(super) fn rows() -> Vec<Row> {
    [shares(), hashes(), several_hashes(), cookies()].concat()
}

/// Far enough apart on a ring of three endpoints that each of them is met.
const KEYS: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "user-1", "user-2"];

/// One request for each key: the target and the header lines that `ask` makes of it.
fn keyed(row: Row, ask: impl Fn(&str) -> (String, String)) -> Row {
    KEYS.into_iter().fold(row, |row, key| {
        let (target, lines) = ask(key);
        row.ask("balance.test", &target, &lines)
    })
}

fn by_header(row: Row, path: &str) -> Row {
    keyed(row, |key| (path.to_owned(), format!("x-key: {key}\r\n")))
}

fn often(row: Row, path: &str, times: usize) -> Row {
    (0..times).fold(row, |row, _| row.get("balance.test", path))
}

fn shares() -> Vec<Row> {
    let row = Row::new;
    vec![
        often(row("round-robin", "endpoints take turns"), "/round", 4),
        often(row("round-robin-weights", "turns follow weights"), "/weighted", 8),
        often(row("locality-weights", "localities take turns by weight"), "/localities", 8),
        by_header(
            row("overprovisioning", "how much healthier than needed a priority must be"),
            "/overprovisioned",
        ),
        row("original-none", "without an original destination it is 503")
            .kind(Kind::Error)
            .get("balance.test", "/original"),
    ]
}

fn hashes() -> Vec<Row> {
    let row = Row::new;
    vec![
        by_header(row("ring-hash", "a key is sent where Envoy's ring sends it"), "/ring"),
        by_header(row("maglev", "a key is sent where Envoy's table sends it"), "/maglev"),
        keyed(row("hash-query", "the value of a query parameter is hashed"), |key| {
            (format!("/query?other=1&key={key}&key=x"), String::new())
        }),
        keyed(row("hash-cookie", "the value of a cookie is hashed"), |key| {
            ("/cookie".into(), format!("cookie: other=1; who=\"{key}\"; who=x\r\n"))
        }),
        often(row("hash-source", "the address of the caller is hashed"), "/source", 4),
        ["one two", "two one", "a b", "c d e", "e c d", "x x", "user-1 user-2"].into_iter().fold(
            row("hash-several-values", "the order of several values of a header does not count"),
            |row, values| {
                let lines = values.split(' ').map(|value| format!("x-key: {value}\r\n"));
                row.ask("balance.test", "/ring", &lines.collect::<String>())
            },
        ),
        by_header(
            row("hash-after-edits", "what is hashed is what the route made of it"),
            "/edited",
        ),
    ]
}

fn several_hashes() -> Vec<Row> {
    let both = |path: &str, row: Row| {
        keyed(row, |key| (format!("{path}?key=x-{key}"), format!("x-key: {key}\r\n")))
    };
    vec![
        both("/both", Row::new("hash-both", "several hashes are put together in their order")),
        both("/terminal", Row::new("hash-terminal", "after a hash that is enough no other counts")),
        keyed(Row::new("hash-not-terminal", "one that gave no value is not enough"), |key| {
            (format!("/terminal?key=x-{key}"), String::new())
        }),
    ]
}

fn cookies() -> Vec<Row> {
    let row = |name, behaviour, path: &str| Row::new(name, behaviour).get("balance.test", path);
    vec![
        row("cookie-set", "a cookie that is missing is set for its life and path", "/set").ask(
            "balance.test",
            "/set",
            "cookie: other=1; who=\r\n",
        ),
        Row::new("cookie-kept", "a cookie that is there is not set").ask(
            "balance.test",
            "/set",
            "cookie: who=me\r\n",
        ),
        row("cookie-session", "a life of zero is that of the session", "/session"),
        row("cookie-attributes", "a cookie has the attributes that are configured", "/attributes"),
        row("cookie-two", "each cookie that is missing is set", "/two").ask(
            "balance.test",
            "/two",
            "cookie: who=me\r\n",
        ),
        row("cookie-terminal", "none is set after a hash that is enough", "/enough"),
        row("cookie-unhashed", "where nothing is hashed no cookie is set", "/turns"),
        row("cookie-edited", "the route's edits are made after a cookie was set", "/removed"),
        Row::new("cookie-local-reply", "an answer of the proxy's own sets no cookie")
            .kind(Kind::Error)
            .get("balance.test", "/nobody"),
    ]
}
