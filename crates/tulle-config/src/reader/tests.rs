use super::*;
use crate::tree;

fn check(text: &str, read: impl FnOnce(Fields<'_>)) -> Vec<String> {
    let document = tree::parse("f", text).remove(0).unwrap();
    let report = Report::new("f");
    read(Field::root(&report, &document.root).fields("Thing").unwrap());
    let (found, _) = report.into_parts();
    found.iter().map(ToString::to_string).collect()
}

#[test]
fn a_field_is_read_refused_or_unknown() {
    let found = check("host: a\nmirror: b\nexport_to: c\nzzz: d\nnothing: null\n", |fields| {
        assert_eq!(fields.text("host").as_deref(), Some("a"));
        assert!(fields.get("exportTo").is_none());
        fields.finish(&["mirror"]);
    });
    assert_eq!(
        found,
        [
            "f:2:1: error[TUL0302] mirror: mirror is not enforced by this release; remove it",
            "f:3:1: error[TUL0301] export_to: Thing has no field export_to; did you mean exportTo?",
            "f:4:1: error[TUL0301] zzz: Thing has no field zzz; \
             fields here: exportTo, host, mirror",
        ]
    );
}

#[test]
fn types_are_not_guessed() {
    let found = check("t: true\nn: '5'\nf: 1.10\nl: x\nm: [1]\nb: yes\n", |fields| {
        assert!(fields.text("t").is_none());
        assert!(fields.get("n").unwrap().port().is_none());
        assert!(fields.text("f").is_none());
        assert!(fields.items("l").is_empty());
        assert!(fields.text_map("m").is_empty());
        assert!(!fields.flag("b"));
    });
    assert_eq!(
        found,
        [
            "f:1:4: error[TUL0303] t: `true` is a number or boolean where a text belongs; \
             write \"true\" with quotes",
            "f:2:4: error[TUL0303] n: the text \"5\" where a number belongs; write a number",
            "f:3:4: error[TUL0303] f: `1.10` is a number or boolean where a text belongs; \
             write \"1.10\" with quotes",
            "f:4:4: error[TUL0303] l: `x` where a list belongs; write a list",
            "f:5:4: error[TUL0303] m: a list where a map belongs; write a map",
            "f:6:4: error[TUL0303] b: `yes` where true or false belongs; write true or false",
        ]
    );
}

#[test]
fn durations_are_read_as_istio_reads_them() {
    let cases = [
        ("1h", 3_600_000),
        ("1m30s", 90_000),
        ("1.5s", 1_500),
        ("250ms", 250),
        ("0", 0),
        ("0s", 0),
        ("1000us", 1),
    ];
    for (text, millis) in cases {
        assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
    }
    for text in ["", "5", "s", "-1s", "1d", "1s ", "1 s", "1..5s", "99999999h"] {
        assert!(parse_duration(text).is_err(), "{text}");
    }
    assert_eq!(duration_text(Duration::from_secs(90)), "90s");
    assert_eq!(duration_text(Duration::from_millis(1)), "1ms");
}

#[test]
fn numbers_stay_in_their_range() {
    let found = check("a: 0\nb: 65536\nc: 80\nd: 33.3\ne: 101\nf: -1\n", |fields| {
        assert_eq!(fields.get("a").unwrap().port(), None);
        assert_eq!(fields.get("b").unwrap().port(), None);
        assert_eq!(fields.get("c").unwrap().port(), Some(80));
        assert_eq!(fields.get("d").unwrap().percentage(), Some(333_000));
        assert_eq!(fields.get("e").unwrap().percentage(), None);
        assert_eq!(fields.get("f").unwrap().number(0..=9), None);
    });
    assert_eq!(found.len(), 4, "{found:?}");
}

#[test]
fn the_nearest_word_is_suggested_and_no_other() {
    let words = ["directResponse", "redirect", "route"];
    assert_eq!(nearest("direct_response", words.into_iter()), Some("directResponse"));
    assert_eq!(nearest("routes", words.into_iter()), Some("route"));
    assert_eq!(nearest("timeout", words.into_iter()), None);
}
