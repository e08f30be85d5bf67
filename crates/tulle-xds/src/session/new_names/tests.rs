use super::*;

fn key(name: &str) -> Key {
    (ResourceType::Listener, name.into())
}

/// All that may be asked for at a time.
fn admitted(names: &mut NewNames, now: Instant) -> Vec<Name> {
    std::iter::from_fn(|| names.next(now)).map(|(_, name)| name).collect()
}

fn offer_crowd(names: &mut NewNames, count: usize, now: Instant) -> Vec<Key> {
    let made_up = (0..count).map(|number| key(&format!("n{number}.crowd.test:80")));
    made_up.filter_map(|key| names.offer(key, now)).collect()
}

#[test]
fn a_hundred_new_names_a_second_and_no_more() {
    let (start, mut names) = (Instant::now(), NewNames::default());
    offer_crowd(&mut names, WAITING_NAMES_LIMIT, start);
    assert_eq!(admitted(&mut names, start).len(), 100);
    assert!(admitted(&mut names, start + Duration::from_millis(9)).is_empty());
    assert_eq!(admitted(&mut names, start + Duration::from_millis(500)).len(), 50);
}

#[test]
fn a_crowd_loses_its_own_and_whoever_stands_apart_is_next() {
    let (start, mut names) = (Instant::now(), NewNames::default());
    let lost = offer_crowd(&mut names, WAITING_NAMES_LIMIT + 3, start);
    let newest: Vec<Key> =
        (0..3).map(|more| key(&format!("n{}.crowd.test:80", WAITING_NAMES_LIMIT + more))).collect();
    assert_eq!(lost, newest, "nobody who waits longer is sent away for somebody who came later");
    let crowd_gives = names.offer(key("shop.test:80"), start);
    let last = format!("n{}.crowd.test:80", WAITING_NAMES_LIMIT - 1);
    assert_eq!(crowd_gives, Some(key(&last)));
    assert_eq!(names.offer(key("shop.test:80"), start), None, "it waits once");
    assert_eq!(names.count, WAITING_NAMES_LIMIT);
    let order = admitted(&mut names, start);
    assert_eq!(&*order[0], "n0.crowd.test:80");
    assert_eq!(&*order[1], "shop.test:80", "neighbourhoods take turns");
    assert_eq!(&*order[2], "n1.crowd.test:80", "each in the order of its names");
}

#[test]
fn names_that_are_all_alone_lose_the_newcomer_or_another_and_are_bounded() {
    let (start, mut names) = (Instant::now(), NewNames::default());
    let far_apart = (0..2 * WAITING_NAMES_LIMIT).map(|number| key(&format!("a.n{number}.test:80")));
    let lost = far_apart.filter_map(|key| names.offer(key, start)).count();
    assert_eq!((lost, names.count), (WAITING_NAMES_LIMIT, WAITING_NAMES_LIMIT));
    assert_eq!(names.turns.len(), names.waiting.len());
}

#[test]
fn nobody_waits_longer_than_is_of_use() {
    let (start, mut names) = (Instant::now(), NewNames::default());
    offer_crowd(&mut names, 150, start);
    assert_eq!(admitted(&mut names, start).len(), 100);
    let later = start + WAITING_TIME_LIMIT;
    names.offer(key("shop.test:80"), later - Duration::from_millis(1));
    assert_eq!(names.overdue(later).len(), 50);
    assert_eq!(admitted(&mut names, later), [Name::from("shop.test:80")]);
    assert_eq!((names.count, names.waiting.len(), names.turns.len()), (0, 0, 0));
}

#[test]
fn neighbours_are_of_one_domain_or_network() {
    for (name, home) in [
        ("a.shop.test:80", "shop.test"),
        ("shop.test:80", "test"),
        ("shop:80", ""),
        ("10.0.0.1:80", "10.0.0"),
        ("10.0.0.1", "10.0.0"),
        ("[fd00:1:2:3:4::5]:80", "fd00:1:2:3"),
        ("[::1]:80", ":"),
        ("", ""),
        (":", ""),
    ] {
        assert_eq!(neighbourhood(name), home, "{name}");
    }
}
