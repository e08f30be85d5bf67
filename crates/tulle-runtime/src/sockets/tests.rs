//! Real sockets on loopback, port 0 throughout.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::*;

fn owner(workers: usize) -> SocketOwner {
    SocketOwner::new(NonZeroUsize::new(workers).expect("not zero"))
}

fn wanted(owner: &str, address: SocketAddr) -> Wanted<'_> {
    Wanted { owner, address, backlog: 16, sharing: Sharing::EachWorker }
}

fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

/// Connects until one of the listeners has accepted, and says which.
fn accepted_by(bound: &Bound) -> usize {
    let _client = TcpStream::connect(bound.address).expect("listening");
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        for (index, listener) in bound.listeners.iter().enumerate() {
            if listener.accept().is_ok() {
                return index;
            }
        }
        assert!(Instant::now() < deadline, "nobody accepted");
        std::thread::yield_now();
    }
}

#[test]
fn the_same_wish_gets_the_same_socket_and_a_reload_refuses_nobody() {
    let mut owner = owner(1);
    let first = owner.bind(wanted("a", loopback())).expect("free");
    assert_ne!(first.address.port(), 0);
    drop(first.listeners);
    TcpStream::connect(first.address).expect("still listening without a duplicate");
    let again = owner.bind(wanted("a", loopback())).expect("ours");
    assert_eq!(again.address, first.address);
    assert!(again.listeners[0].accept().is_ok(), "the waiting connection is not lost");
    let other = owner.bind(wanted("b", loopback())).expect("free");
    assert_ne!(other.address, first.address);
    let by_port = owner.bind(wanted("c", other.address));
    assert!(by_port.is_err(), "the port of another wish is taken");
    let expected = [(loopback(), first.address), (loopback(), other.address)];
    assert_eq!(owner.addresses().collect::<Vec<_>>(), expected);
}

#[test]
fn every_worker_accepts_and_no_second_process_does() {
    let mut four = owner(4);
    let bound = four.bind(wanted("a", loopback())).expect("free");
    assert_eq!(bound.listeners.len(), 4);
    let mut seen = [false; 4];
    for _ in 0..200 {
        seen[accepted_by(&bound)] = true;
    }
    assert!(seen.iter().filter(|seen| **seen).count() > 1, "{seen:?}");
    for workers in [1, 4] {
        let error = owner(workers).bind(wanted("a", bound.address)).expect_err("in use");
        assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains("in use; stop"), "{error}");
    }
    let one = Wanted { sharing: Sharing::One, ..wanted("admin", loopback()) };
    assert_eq!(four.bind(one).expect("free").listeners.len(), 1);
}

#[test]
fn released_addresses_are_free_once_the_duplicates_are_gone() {
    let mut owner = owner(2);
    let bound = owner.bind(wanted("a", loopback())).expect("free");
    let address = bound.address;
    drop(bound);
    owner.release("b", loopback());
    assert!(TcpStream::connect(address).is_ok(), "another owner's port 0 is another wish");
    owner.release("a", loopback());
    assert!(TcpStream::connect(address).is_err());
    let bound = owner.bind(wanted("a", address)).expect("free again");
    assert_eq!(bound.address, address);
    owner.release("z", address);
    assert_eq!(owner.addresses().count(), 0, "a real port is known by its number alone");
}

#[test]
fn sockets_of_somebody_else_are_adopted() {
    let theirs = TcpListener::bind(loopback()).expect("free");
    let address = theirs.local_addr().expect("bound");
    let mut owner = owner(1);
    owner.adopt([theirs]);
    let bound = owner.bind(wanted("a", address)).expect("adopted, not bound again");
    assert_eq!(accepted_by(&bound), 0);
}

#[test]
fn families_are_apart_and_the_queue_can_change() {
    if !has_ipv6() {
        return;
    }
    let mut owner = owner(1);
    let v6 = owner.bind(wanted("six", (Ipv6Addr::UNSPECIFIED, 0).into())).expect("free");
    let v4 = SocketAddr::from(([0, 0, 0, 0], v6.address.port()));
    let v4 = owner.bind(wanted("four", v4)).expect("the families do not share ports");
    assert_eq!(v4.address.port(), v6.address.port());
    let longer = Wanted { backlog: 1000, ..wanted("four", v4.address) };
    assert_eq!(owner.bind(longer).expect("ours").address, v4.address);
}

#[test]
fn a_reserved_address_is_nobody_elses_and_is_listened_on_when_it_is_wanted() {
    for workers in [1, 4] {
        let free = TcpListener::bind(loopback()).and_then(|listener| listener.local_addr());
        let address = free.expect("an address");
        let mut owner = owner(workers);
        let reserved = owner.reserve("a", address).expect("free").expect("not held yet");
        assert!(TcpStream::connect(address).is_err(), "nobody listens yet");
        let taken = TcpListener::bind(address).expect_err("somebody else listens there");
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        let other = self::owner(1).reserve("b", address);
        assert!(other.is_err() || listen_alone(other.unwrap().unwrap().socket, 1, false).is_err());
        owner.redeem([reserved]);
        let bound = owner.bind(wanted("a", address)).expect("reserved");
        assert_eq!(bound.listeners.len(), workers);
        accepted_by(&bound);
        assert!(owner.reserve("a", address).expect("ours").is_none());
        drop(bound);
        owner.release("a", address);
        drop(owner.reserve("a", address).expect("free again"));
        TcpListener::bind(address).expect("given up");
    }
}

#[test]
fn addresses_of_others_are_refused_with_advice() {
    let address = ([192, 0, 2, 1], 0).into();
    let error = owner(1).bind(wanted("a", address)).expect_err("not ours");
    assert!(error.to_string().contains("not an address of this machine"), "{error}");
}

#[test]
fn one_process_per_directory_and_name() {
    let directory = std::env::temp_dir().join(format!("tulle-lock-{}", std::process::id()));
    let lock = NodeLock::of_directory(&directory).expect("free");
    let error = NodeLock::of_directory(&directory).expect_err("taken").to_string();
    assert!(error.contains(&format!("(process {})", std::process::id())), "{error}");
    drop(lock);
    drop(NodeLock::of_directory(&directory).expect("free again"));
    std::fs::remove_dir_all(&directory).expect("ours");

    let name = format!("tulle-test-{}", std::process::id());
    let lock = NodeLock::of_name(&name).expect("free");
    assert!(matches!(NodeLock::of_name(&name), Err(LockError::Taken { .. })));
    drop(lock);
    NodeLock::of_name(&name).expect("free again");
}
