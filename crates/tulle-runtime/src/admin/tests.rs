//! Requests as tools and as pages send them, on a real connection.

use std::cell::Cell;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

#[derive(Default)]
struct Counting {
    changed: Cell<u32>,
}

enum Path {
    Look,
    Change,
    Both,
    Slow,
}

impl Api for Counting {
    type Route = Path;

    fn route(&self, path: &str) -> Option<(Methods, Path)> {
        Some(match path {
            "/look" => (Methods::Get, Path::Look),
            "/change" => (Methods::Post, Path::Change),
            "/both" => (Methods::GetOrPost, Path::Both),
            "/slow" => (Methods::Get, Path::Slow),
            _ => return None,
        })
    }

    async fn answer(&self, route: Path, question: Question) -> Answer {
        match route {
            Path::Look => Answer::text(format!("{:?}", question.parameters)),
            Path::Change => {
                self.changed.set(self.changed.get() + 1);
                Answer::text(question.body)
            }
            Path::Both => Answer::json(&question.method.as_str()),
            Path::Slow => {
                std::future::pending::<()>().await;
                Answer::text("never")
            }
        }
    }

    fn help(&self) -> String {
        "try /look\n".to_owned()
    }
}

/// Sends `request` (its last line is the body) and gives the status and the body back.
async fn ask(request: &str) -> (u16, String) {
    let (status, body, _) = ask_all(request, HostPolicy::Own).await;
    (status, body)
}

async fn ask_all(request: &str, hosts: HostPolicy) -> (u16, String, u32) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("free");
    let address = listener.local_addr().expect("bound");
    let api = Rc::new(Counting::default());
    let client = async {
        let mut stream = TcpStream::connect(address).await.expect("listening");
        let request = request.replace("SELF", &address.to_string());
        stream.write_all(request.as_bytes()).await.expect("open");
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        tokio::time::timeout(Duration::from_secs(20), read).await.expect("ended").expect("open");
        String::from_utf8(answer).expect("text")
    };
    let text = tokio::select! {
        text = client => text,
        broken = serve(listener, hosts, Rc::clone(&api)) => panic!("{broken:?}"),
    };
    let status = text.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status, body.to_owned(), api.changed.get())
}

fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n")
}

#[tokio::test]
async fn questions_are_answered() {
    let query = "/look?graceful&level=de%62ug&a=b+c%zz%";
    let (status, body) = ask(&get(query, "Host: SELF\r\n")).await;
    let expected = r#"[("graceful", ""), ("level", "debug"), ("a", "b c%zz%")]"#;
    assert_eq!((status, body.as_str()), (200, expected));
    let (status, body) = ask(&get("/both", "Host: localhost:99\r\n")).await;
    assert_eq!((status, body.as_str()), (200, "\"GET\"\n"));
    let post = "POST /change HTTP/1.1\r\nHost: SELF\r\nConnection: close\r\n\
                Content-Length: 3\r\n\r\nabc";
    let answered = ask_all(post, HostPolicy::Own).await;
    assert_eq!(answered, (200, "abc".to_owned(), 1));
    let old = "GET /look HTTP/1.0\r\n\r\n";
    assert_eq!(ask(old).await.0, 200, "HTTP/1.0 needs no Host");
}

#[tokio::test]
async fn what_is_not_there_and_what_must_be_posted() {
    assert_eq!(ask(&get("/nope", "Host: SELF\r\n")).await, (404, "try /look\n".to_owned()));
    let (status, body) = ask(&get("/change", "Host: SELF\r\n")).await;
    assert_eq!(status, 405);
    assert!(body.contains("POST required"), "{body}");
    let head = "HEAD /look HTTP/1.1\r\nHost: SELF\r\nConnection: close\r\n\r\n";
    assert_eq!(ask(head).await, (200, String::new()));
    let delete = "DELETE /look HTTP/1.1\r\nHost: SELF\r\nConnection: close\r\n\r\n";
    assert_eq!(ask(delete).await.0, 405);
}

#[tokio::test]
async fn pages_are_refused_and_change_nothing() {
    for headers in [
        "Host: evil.example\r\n",
        "Host: 127.0.0.1.evil.example\r\n",
        "Host: 10.1.2.3\r\n",
        "Host: SELF\r\nOrigin: null\r\n",
        "Host: SELF\r\nOrigin: http://SELF\r\n",
        "Host: SELF\r\nSec-Fetch-Site: cross-site\r\n",
        "Host: SELF\r\nHost: evil.example\r\n",
        "Host: a b\r\n",
        "",
    ] {
        assert_eq!(ask(&get("/look", headers)).await.0, 403, "{headers:?}");
        let post = format!(
            "POST /change HTTP/1.1\r\n{headers}Content-Length: 0\r\nConnection: close\r\n\r\n"
        );
        let (status, _, changed) = ask_all(&post, HostPolicy::Own).await;
        assert_eq!((status, changed), (403, 0), "{headers:?}");
    }
    let absolute = get("http://evil.example/look", "Host: SELF\r\n");
    assert_eq!(ask(&absolute).await.0, 403, "the target's name counts");
    let named = get("/look", "Host: metrics.example\r\n");
    assert_eq!(ask_all(&named, HostPolicy::Any).await.0, 200);
    let page = get("/look", "Host: metrics.example\r\nOrigin: http://a\r\n");
    assert_eq!(ask_all(&page, HostPolicy::Any).await.0, 403);
}

#[tokio::test]
async fn sizes_have_limits() {
    let body = "x".repeat(MAX_BODY_BYTES + 1);
    let post = format!(
        "POST /change HTTP/1.1\r\nHost: SELF\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let (status, _, changed) = ask_all(&post, HostPolicy::Own).await;
    assert_eq!((status, changed), (413, 0));
    let long = get(&format!("/look?{}", "a".repeat(MAX_QUERY_BYTES + 1)), "Host: SELF\r\n");
    assert_eq!(ask(&long).await.0, 414);
}

#[tokio::test]
async fn connections_have_a_limit_and_one_that_hangs_harms_no_other() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("free");
    let address = listener.local_addr().expect("bound");
    let script = async {
        let mut hanging = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            let mut stream = TcpStream::connect(address).await.expect("listening");
            stream.write_all(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("open");
            hanging.push(stream);
        }
        let mut late = TcpStream::connect(address).await.expect("the kernel accepts");
        let request = get("/look", "Host: localhost\r\n");
        late.write_all(request.as_bytes()).await.expect("open");
        let mut answer = Vec::new();
        let waits = late.read_to_end(&mut answer);
        let early = tokio::time::timeout(Duration::from_millis(100), waits).await;
        assert!(early.is_err(), "served beyond the limit");
        hanging.pop();
        let read = late.read_to_end(&mut answer);
        tokio::time::timeout(Duration::from_secs(20), read).await.expect("a place").expect("open");
        assert!(answer.starts_with(b"HTTP/1.1 200"));
    };
    tokio::select! {
        () = script => {}
        broken = serve(listener, HostPolicy::Own, Rc::new(Counting::default())) => {
            panic!("{broken:?}")
        }
    }
}
