//! Lines arrive whole, in order, and nobody waits for them.

use std::io::Read;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

fn scratch(name: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("tulle-sink-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("writable");
    directory
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::yield_now();
    }
}

#[test]
fn lines_of_every_thread_arrive_whole_and_in_order() {
    let directory = scratch("order");
    let path = directory.join("log");
    let sink = Sink::open(Target::File(path.clone())).expect("writable");
    let shared = sink.shared_queue();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (worker, shared) = (sink.worker_queue(), shared.clone());
            scope.spawn(move || {
                for line in 0..2000 {
                    let text = format!("{thread} {line}\n");
                    let pushed = match thread % 2 {
                        0 => worker.push(text.as_bytes()),
                        _ => shared.push(text.as_bytes()),
                    };
                    assert!(pushed);
                    if line % 500 == 0 {
                        std::thread::yield_now();
                    }
                }
            });
        }
    });
    assert_eq!(sink.dropped(), 0);
    sink.close(Instant::now() + PATIENCE);
    let text = std::fs::read_to_string(&path).expect("written");
    assert_eq!(text.lines().count(), 8000);
    for thread in 0..4 {
        let mut numbers: Vec<u32> = text
            .lines()
            .filter_map(|line| line.strip_prefix(&format!("{thread} ")))
            .map(|number| number.parse().expect("whole lines"))
            .collect();
        if thread % 2 == 0 {
            // A detour may be overtaken; nothing may be lost.
            numbers.sort_unstable();
        }
        assert!(numbers.iter().copied().eq(0..2000), "thread {thread}");
    }
    std::fs::remove_dir_all(directory).expect("ours");
}

#[test]
fn a_single_line_is_written_without_another() {
    let directory = scratch("single");
    let path = directory.join("log");
    let sink = Sink::open(Target::File(path.clone())).expect("writable");
    let worker = sink.worker_queue();
    for line in 0..5 {
        assert!(worker.push(b"line\n"));
        let whole = "line\n".repeat(line + 1);
        until("the line", || std::fs::read_to_string(&path).expect("there") == whole);
        until("sleep", || sink.shared.parked.load(Ordering::SeqCst));
    }
    std::fs::remove_dir_all(directory).expect("ours");
}

#[test]
fn a_full_pipe_costs_lines_and_not_time() {
    let directory = scratch("full");
    let path = directory.join("pipe");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0)
        .expect("a pipe");
    let reader = OpenOptions::new().read(true).write(true).open(&path).expect("ours");
    let sink = Sink::open(Target::File(path)).expect("opened");
    let worker = sink.worker_queue();
    let line = [b'x'; 1000];
    let began = Instant::now();
    let refused = (0..10_000).filter(|_| !worker.push(&line)).count();
    assert!(began.elapsed() < PATIENCE, "waited for the reader");
    // The buffer and the detour, once in the writer's hands and once waiting.
    let kept = (10_000 - refused) * line.len();
    assert!(kept <= 4 * MAX_QUEUE_BYTES, "the queue is not bounded: {kept}");
    let refused = refused as u64;
    assert_eq!(sink.dropped(), refused);
    let mut some = [0; 64 * 1024];
    (&reader).read_exact(&mut some).expect("what was kept comes out");
    sink.close(Instant::now());
    std::fs::remove_dir_all(directory).expect("ours");
}

#[test]
fn a_moved_file_is_opened_again_when_asked() {
    let directory = scratch("reopen");
    let (path, moved) = (directory.join("log"), directory.join("log.1"));
    let sink = Sink::open(Target::File(path.clone())).expect("writable");
    let worker = sink.worker_queue();
    worker.push(b"one\n");
    until("the first line", || std::fs::read(&path).is_ok_and(|text| text == b"one\n"));
    std::fs::rename(&path, &moved).expect("ours");
    worker.push(b"two\n");
    until("the second line", || std::fs::read(&moved).is_ok_and(|text| text == b"one\ntwo\n"));
    sink.reopen();
    until("the new file", || path.exists());
    worker.push(b"three\n");
    drop(worker);
    sink.close(Instant::now() + PATIENCE);
    assert_eq!(std::fs::read(&path).expect("written"), b"three\n");
    std::fs::remove_dir_all(directory).expect("ours");
}

#[test]
fn queues_of_ended_workers_are_forgotten_and_their_losses_are_not() {
    let directory = scratch("forget");
    let sink = Sink::open(Target::File(directory.join("log"))).expect("writable");
    let worker = sink.worker_queue();
    assert!(!worker.push(&vec![b'x'; MAX_QUEUE_BYTES + 1]));
    drop(worker);
    sink.reopen();
    until("forgetting", || lock(&sink.shared.queues).is_empty());
    assert_eq!(sink.dropped(), 1);
    std::fs::remove_dir_all(directory).expect("ours");
}
