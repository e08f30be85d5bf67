//! Who sees what in which order, who answers, and what awaiting filters may do.

use std::time::Duration;

use super::rig::{Rig, SIDES, Side, locally};
use crate::http::filter::tests::probe::{Act, Play};

pub fn play(name: &'static str) -> Play {
    Play { name, ..Play::default() }
}

fn told(rig: &Rig) -> Vec<String> {
    rig.told.borrow().clone()
}

#[tokio::test]
async fn requests_pass_in_order_and_answers_in_reverse() {
    locally(async {
        for (down, up) in SIDES {
            let rig = Rig::new((down, up), vec![play("a"), play("b"), play("c")]).await;
            let answer = rig.post(down, "/x", &["abc"]).await;
            assert_eq!((&*answer.start, &*answer.text()), ("200", "hello world"));
            rig.ended(3).await;
            let expected = [
                "a request /x",
                "a request done",
                "b request /x",
                "b request done",
                "c request /x",
                "c request done",
                "c response 200",
                "b response 200",
                "a response 200",
                "a end -",
                "b end -",
                "c end -",
            ];
            assert_eq!(told(&rig), expected, "{down:?} {up:?}");
            assert_eq!(rig.log(), ["200 - via_upstream 3 11 end"]);
        }
    })
    .await;
}

#[tokio::test]
async fn a_reply_passes_only_the_filters_outside_it() {
    locally(async {
        for down in [Side::H1, Side::H2] {
            let b = Play { request: Act::Reply(403), ..play("b") };
            let rig = Rig::new((down, Side::H1), vec![play("a"), b, play("c")]).await;
            let answer = rig.post(down, "/x", &["abc"]).await;
            assert_eq!((&*answer.start, &*answer.text()), ("403", "b"));
            rig.ended(2).await;
            let expected = [
                "a request /x",
                "a request done",
                "b request /x",
                "b request done",
                "a response 403 holding 1",
                "a end -",
                "b end -",
            ];
            assert_eq!(told(&rig), expected);
            assert!(rig.backend.seen.borrow().is_empty());
            assert_eq!(rig.log(), ["403 - probe 0 1 -"]);
        }
    })
    .await;
}

#[tokio::test]
async fn a_filter_may_answer_in_the_place_of_an_answer() {
    locally(async {
        for (down, up) in SIDES {
            let b = Play { response: Act::Reply(502), ..play("b") };
            let a = Play { response: Act::Reply(599), ..play("a") };
            let rig = Rig::new((down, up), vec![play("o"), a, b, play("c")]).await;
            let answer = rig.post(down, "/x", &["abc"]).await;
            assert_eq!((&*answer.start, &*answer.text()), ("599", "a"));
            rig.ended(4).await;
            let answers: Vec<_> =
                told(&rig).into_iter().filter(|line| line.contains("response")).collect();
            assert_eq!(
                answers,
                [
                    "c response 200",
                    "b response 200",
                    "a response 502 holding 1",
                    "o response 599 holding 1",
                ],
            );
            assert_eq!(rig.log(), ["599 - probe 3 1 -"]);
        }
    })
    .await;
}

#[tokio::test]
async fn after_a_reroute_the_next_filters_are_those_of_the_new_route() {
    locally(async {
        for (to, with_b) in [("/quiet", false), ("/loud", true)] {
            let a = Play { request: Act::Reroute(to), ..play("a") };
            let rig = Rig::new((Side::H1, Side::H1), vec![a, play("b"), play("c")]).await;
            let from = if with_b { "/quiet" } else { "/x" };
            assert_eq!(rig.post(Side::H1, from, &["abc"]).await.start, "200");
            rig.ended(if with_b { 3 } else { 2 }).await;
            let told = told(&rig);
            let asked = |name: &str| {
                let line = format!("{name} request /");
                told.iter().filter(|told| told.starts_with(&line)).count()
            };
            assert_eq!((asked("a"), asked("b"), asked("c")), (1, usize::from(with_b), 1));
            assert!(told.contains(&format!("c request {to}")), "{told:?}");
            assert_eq!(rig.backend.seen.borrow()[0].start, format!("POST {to}"));
        }
    })
    .await;
}

#[tokio::test]
async fn filters_may_wait_and_ask_others() {
    locally(async {
        for (down, up) in SIDES {
            let pause = Duration::from_millis(2);
            let a = Play { request: Act::Wait(pause), response: Act::Wait(pause), ..play("a") };
            let ask = Act::Ask("backend".into(), "/asked");
            let b = Play { request: ask.clone(), response: ask, ..play("b") };
            let rig = Rig::new((down, up), vec![a, b]).await;
            let answer = rig.post(down, "/x", &["abc"]).await;
            assert_eq!(answer.header("x-asked"), Some("200 answered"));
            let seen = rig.backend.seen.borrow();
            let starts: Vec<_> = seen.iter().map(|message| &*message.start).collect();
            assert_eq!(starts, ["GET /asked", "POST /x", "GET /asked"]);
            assert_eq!((&*seen[0].text(), seen[1].header("x-asked")), ("?", Some("200 answered")));
        }
    })
    .await;
}

#[tokio::test]
async fn a_question_to_nobody_is_answered_so() {
    locally(async {
        let a = Play { request: Act::Ask("nobody".into(), "/asked"), ..play("a") };
        let rig = Rig::new((Side::H1, Side::H1), vec![a]).await;
        rig.post(Side::H1, "/x", &["abc"]).await;
        let seen = rig.backend.seen.borrow();
        assert_eq!(seen[0].header("x-asked"), Some("the cluster is not known"));
    })
    .await;
}
