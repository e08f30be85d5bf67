//! Formats and what they come to.

use std::time::UNIX_EPOCH;

use proptest::prelude::*;
use tulle_model::flag::ResponseFlag;
use tulle_model::head::KnownId;
use tulle_model::listener::Listener;
use tulle_model::resource::Resource;
use tulle_model::snapshot::{Change, Snapshot};

use super::sinks::{self, Sinks, WorkerLogs};
use super::*;

fn request() -> RequestHead {
    let mut head = RequestHead::new();
    head.set_path(b"/new").expect("good");
    for (name, value) in [
        ("host", "order.shop"),
        ("user-agent", "curl/8"),
        ("x-request-id", "id-1"),
        ("x-envoy-original-path", "/old"),
        ("x-odd", "a\"\\\tb"),
    ] {
        head.headers.append(name, value.as_bytes()).expect("good");
    }
    head
}

fn check(fields: &LogFields<'_>, cases: &[(&str, &str)]) {
    for (format, expected) in cases {
        let template = Template::parse(format).expect(format);
        let mut out = Vec::new();
        render::line(&LogFormat::Text(template), fields, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), *expected, "{format}");
    }
}

#[test]
fn the_default_line_is_envoys() {
    let (request, mut response) = (request(), ResponseHead::new());
    response.headers.append(KnownId::XEnvoyUpstreamServiceTime, b"3").expect("good");
    let host = Target::Socket(([10, 0, 0, 1], 80).into());
    let fields = LogFields {
        request: Some(&request),
        response: Some(&response),
        protocol: Some(Version::Http11),
        status: 200,
        bytes_sent: 12,
        duration: Some(Duration::from_micros(4999)),
        upstream: UpstreamFields { host: Some(&host), ..UpstreamFields::default() },
        ..LogFields::at(UNIX_EPOCH + Duration::from_millis(1_460_751_420_310))
    };
    check(
        &fields,
        &[(
            tulle_model::access_log::DEFAULT_FORMAT,
            "[2016-04-15T20:17:00.310Z] \"GET /old HTTP/1.1\" 200 - 0 12 4 3 \"-\" \"curl/8\" \
             \"id-1\" \"order.shop\" \"10.0.0.1:80\"\n",
        )],
    );
}

#[test]
fn commands_print_what_is_known() {
    let (request, response) = (request(), ResponseHead::new());
    let mut trailers = Headers::new();
    trailers.append("grpc-status", b"7").expect("good");
    let address = |last| Some(([10, 0, 0, last], 1000 + u16::from(last)).into());
    let host = Target::Pipe("/run/app.sock".into());
    let mut flags = ResponseFlags::from(ResponseFlag::UpstreamConnectionFailure);
    flags.insert(ResponseFlag::UpstreamRetryLimitExceeded);
    let origin = Origin::of_object("VirtualService", "shop", "order").at("spec.http[0]");
    let known = LogFields {
        request: Some(&request),
        response: Some(&response),
        trailers: Some(&trailers),
        protocol: Some(Version::Http2),
        status: 503,
        details: "upstream reset before",
        termination_details: "idle timeout",
        flags,
        bytes_received: 5,
        request_duration: Some(Duration::from_millis(2)),
        response_duration: Some(Duration::from_secs(3)),
        listener: "virtualOutbound",
        routes: "order.shop:80",
        route_name: "by-header",
        origin: Some(&origin),
        hostname: "node-1",
        downstream: DownstreamFields {
            connection_id: 9,
            local: address(1),
            remote: address(2),
            direct_remote: address(3),
            server_name: "order.shop",
        },
        upstream: UpstreamFields {
            cluster: "outbound|80||order.shop",
            host: Some(&host),
            local: address(4),
            transport_failure: "connection refused",
            attempts: 2,
        },
        ..LogFields::at(UNIX_EPOCH)
    };
    check(
        &known,
        &[
            ("%PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS%", "HTTP/2 503 UF,URX"),
            ("%RESPONSE_CODE_DETAILS%", "upstream_reset_before"),
            ("%CONNECTION_TERMINATION_DETAILS%", "idle timeout"),
            ("%BYTES_RECEIVED%/%BYTES_SENT%", "5/0"),
            ("%REQUEST_DURATION% %RESPONSE_DURATION% %DURATION%", "2 3000 -"),
            ("%UPSTREAM_HOST% %UPSTREAM_CLUSTER%", "/run/app.sock outbound|80||order.shop"),
            ("%UPSTREAM_LOCAL_ADDRESS%", "10.0.0.4:1004"),
            ("%UPSTREAM_TRANSPORT_FAILURE_REASON%", "connection_refused"),
            ("%UPSTREAM_REQUEST_ATTEMPT_COUNT%", "2"),
            ("%DOWNSTREAM_LOCAL_ADDRESS%", "10.0.0.1:1001"),
            ("%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%", "10.0.0.1"),
            ("%DOWNSTREAM_LOCAL_PORT%", "1001"),
            ("%DOWNSTREAM_REMOTE_ADDRESS%", "10.0.0.2:1002"),
            ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "10.0.0.2"),
            ("%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%", "10.0.0.3:1003"),
            ("%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%", "10.0.0.3"),
            ("%REQUESTED_SERVER_NAME% %ROUTE_NAME% %HOSTNAME%", "order.shop by-header node-1"),
            ("%CONNECTION_ID% %STREAM_ID%", "9 id-1"),
            ("%REQ(:METHOD)% %REQ(:PATH)% %REQ(:AUTHORITY)%", "GET /new order.shop"),
            ("%REQ(USER-AGENT):4%|%REQ(NOPE?USER-AGENT)%|%REQ(A?B)%", "curl|curl/8|-"),
            ("%RESP(SERVER)% %RESP(:STATUS)% %TRAILER(GRPC-STATUS)%", "- - 7"),
            ("%TULLE_LISTENER% %TULLE_ROUTES%", "virtualOutbound order.shop:80"),
            ("%TULLE_ORIGIN%", "VirtualService shop/order spec.http[0]"),
            ("100%%", "100%"),
        ],
    );
}

#[test]
fn nothing_known_is_dashes() {
    check(
        &LogFields::at(UNIX_EPOCH),
        &[
            ("%START_TIME%", "1970-01-01T00:00:00.000Z"),
            ("%PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% %REQ(:PATH)%", "- 0 - -"),
            ("%UPSTREAM_HOST%%UPSTREAM_CLUSTER%%DOWNSTREAM_LOCAL_PORT%%CONNECTION_ID%", "----"),
            ("%STREAM_ID%%HOSTNAME%%ROUTE_NAME%%RESPONSE_CODE_DETAILS%", "----"),
        ],
    );
}

#[test]
fn json_keeps_types_and_order() {
    let request = request();
    let fields = LogFields { request: Some(&request), status: 404, ..LogFields::at(UNIX_EPOCH) };
    let member = |key: &str, format: &str| (key.into(), Template::parse(format).expect("good"));
    let format = LogFormat::Json(vec![
        member("z", "%RESPONSE_CODE%"),
        member("a", "%REQ(X-ODD)%"),
        member("m", "%UPSTREAM_HOST%"),
        member("t", "%RESPONSE_CODE% %UPSTREAM_HOST%"),
        member("f", "%RESPONSE_FLAGS%"),
        member("é\"", "plain"),
    ]);
    let mut out = Vec::new();
    render::line(&format, &fields, &mut out);
    let text = String::from_utf8(out).expect("UTF-8");
    let expected = r#"{"z":404,"a":"a\"\\\tb","m":null,"t":"404 -","f":"-","é\"":"plain"}"#;
    assert_eq!(text, format!("{expected}\n"));
    let mut empty = Vec::new();
    render::line(&LogFormat::Json(Vec::new()), &fields, &mut empty);
    assert_eq!(empty, b"{}\n");
}

#[test]
fn headers_that_routes_add_leave_out_what_is_missing() {
    let request = request();
    let remote = Some(([10, 0, 0, 2], 5).into());
    let fields = LogFields {
        request: Some(&request),
        protocol: Some(Version::Http11),
        downstream: DownstreamFields { remote, ..DownstreamFields::default() },
        ..LogFields::at(UNIX_EPOCH)
    };
    for (format, expected) in [
        ("%REQ(nope)%", ""),
        ("a%REQ(nope)%b", "ab"),
        ("%DOWNSTREAM_REMOTE_ADDRESS%|%PROTOCOL%", "10.0.0.2:5|HTTP/1.1"),
        ("%REQ(user-agent)% %%", "curl/8 %"),
    ] {
        let mut out = Vec::new();
        render::header_value(&Template::parse(format).expect("good"), &fields, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), expected, "{format}");
    }
}

#[test]
fn default_formats_are_good() {
    for format in [AccessLogFormat::Text, AccessLogFormat::Json] {
        let log = default_log(format);
        let mut out = Vec::new();
        render::line(&log.format, &LogFields::at(UNIX_EPOCH), &mut out);
        assert!(out.ends_with(b"\n"));
        if format == AccessLogFormat::Json {
            let value: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
            assert_eq!(value["response_code"], 0);
            assert!(value["upstream_host"].is_null());
        }
    }
}

fn listener(path: &str, format: &str) -> Change {
    let mut listener = Listener::new("l".into());
    let format = LogFormat::Text(Template::parse(format).expect("good"));
    listener.access_log = vec![AccessLog { sink: LogSink::File(path.into()), format }];
    Change::Put(Resource::Listener(listener.into()), Vec::new())
}

#[test]
fn a_worker_writes_what_its_configuration_names() {
    let directory = tempfile::tempdir().expect("writable");
    let path = directory.path().join("a").to_string_lossy().into_owned();
    let snapshot = Snapshot::new(false).with([listener(&path, "%RESPONSE_CODE%\n")]);
    let mut sinks = Sinks::default();
    let worker = WorkerLogs::new(Vec::new(), sinks::hostname());
    assert!(sinks.sync(&snapshot, &[]).is_empty());
    let before = sinks.open();
    assert!(sinks.sync(&snapshot, &[]).is_empty());
    assert!(std::sync::Arc::ptr_eq(&before, &sinks.open()), "nothing has changed");
    drop(before);
    worker.set(&sinks.open());
    let logs = snapshot.listeners().next().expect("one").access_log.clone();
    for status in [200, 503] {
        worker.write(&logs, &LogFields { status, ..LogFields::at(UNIX_EPOCH) });
    }
    worker.write(&[], &LogFields::at(UNIX_EPOCH));
    assert!(!worker.hostname().is_empty());
    drop(worker);
    assert_eq!(sinks.dropped(), 0);
    sinks.close(std::time::Instant::now() + Duration::from_secs(20));
    assert_eq!(std::fs::read_to_string(&path).expect("written"), "200\n503\n");
}

/// Connections of a listener that left write to its log; it gives way only when there are too many.
#[test]
fn a_log_that_is_no_longer_named_stays_open_while_there_is_room() {
    let directory = tempfile::tempdir().expect("writable");
    let path = |number: usize| directory.path().join(number.to_string()).display().to_string();
    let named = |number: usize| Snapshot::new(false).with([listener(&path(number), "x\n")]);
    let mut sinks = Sinks::default();
    for number in 0..sinks::MAX_SINKS {
        assert!(sinks.sync(&named(number), &[]).is_empty());
    }
    assert_eq!(sinks.open().len(), sinks::MAX_SINKS);
    assert!(sinks.open().contains_key(&LogSink::File(path(0).into())));
    let one_more = sinks::MAX_SINKS;
    assert!(sinks.sync(&named(one_more), &[]).is_empty());
    let open = sinks.open();
    assert_eq!(open.len(), sinks::MAX_SINKS);
    assert!(open.contains_key(&LogSink::File(path(one_more).into())));
}

#[test]
fn a_log_that_cannot_be_written_is_named_and_harms_no_other() {
    let directory = tempfile::tempdir().expect("writable");
    let good = directory.path().join("good").to_string_lossy().into_owned();
    let snapshot = Snapshot::new(false).with([listener("/nonexistent/dir/log", "x\n")]);
    let fallback = AccessLog {
        sink: LogSink::File(good.as_str().into()),
        format: LogFormat::Text(Template::literal("fallback\n")),
    };
    let mut sinks = Sinks::default();
    let errors = sinks.sync(&snapshot, std::slice::from_ref(&fallback));
    assert_eq!(errors.len(), 1);
    let text = errors[0].to_string();
    assert!(text.contains("/nonexistent/dir/log") && text.contains("writable"), "{text}");
    let worker = WorkerLogs::new(vec![fallback], "".into());
    worker.set(&sinks.open());
    worker.write(&[], &LogFields::at(UNIX_EPOCH));
    drop(worker);
    sinks.close(std::time::Instant::now() + Duration::from_secs(20));
    assert_eq!(std::fs::read_to_string(&good).expect("written"), "fallback\n");
}

proptest! {
    #[test]
    fn timestamps_are_those_of_the_calendar(
        seconds in 0u64..253_402_300_800,
        millis in 0u64..1000,
    ) {
        let start = UNIX_EPOCH + Duration::from_millis(seconds * 1000 + millis);
        let mut out = Vec::new();
        let template = Template::parse("%START_TIME%").expect("good");
        render::header_value(&template, &LogFields::at(start), &mut out);
        let text = String::from_utf8(out).expect("ASCII");
        // The calendar, day by day from the year's first.
        let (year, month, day): (u64, usize, u64) = (
            text[0..4].parse().expect("a year"),
            text[5..7].parse().expect("a month"),
            text[8..10].parse().expect("a day"),
        );
        let is = |year: u64, number: u64| year.is_multiple_of(number);
        let leap = |year: u64| is(year, 4) && (!is(year, 100) || is(year, 400));
        let february = if leap(year) { 29 } else { 28 };
        let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let years: u64 = (1970..year).map(|year| if leap(year) { 366 } else { 365 }).sum();
        let days = years + months[..month - 1].iter().sum::<u64>() + day - 1;
        prop_assert_eq!(days, seconds / 86_400);
        let clock = seconds % 86_400;
        let expected =
            format!("T{:02}:{:02}:{:02}.{millis:03}Z", clock / 3600, clock / 60 % 60, clock % 60);
        prop_assert_eq!(&text[10..], &expected);
        prop_assert!(day >= 1 && day <= months[month - 1]);
    }
}
