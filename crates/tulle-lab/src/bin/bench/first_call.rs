//! First calls (P11): many connections of a sidecar call a destination each that it was never
//! asked for, all at the same moment.

use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use serde::{Deserialize, Serialize};

use crate::control::service;
use crate::generate::{ANSWER_LIMIT, read_answer};

/// Microseconds of each call.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Times {
    /// To a destination never called.
    pub first: Vec<f64>,
    /// To the same once more.
    pub again: Vec<f64>,
}

/// Calls the services from `from` on, `count` of them at once, then all of them once more.
pub fn call(sidecar: SocketAddr, from: usize, count: usize) -> Result<Times> {
    let start = Arc::new(Barrier::new(count));
    let calls = (from..from + count).map(|number| {
        let start = Arc::clone(&start);
        thread::spawn(move || one(sidecar, number, &start))
    });
    let calls: Vec<_> = calls.collect();
    let mut times = Times::default();
    for call in calls {
        let [first, again] = call.join().map_err(|_| anyhow!("a call's thread ended early"))??;
        times.first.push(first);
        times.again.push(again);
    }
    Ok(times)
}

fn one(sidecar: SocketAddr, number: usize, start: &Barrier) -> Result<[f64; 2]> {
    let connected = connect(sidecar);
    // Whoever cannot connect must not keep the others waiting.
    start.wait();
    let mut stream = connected?;
    let request = format!("GET / HTTP/1.1\r\nhost: {}:80\r\n\r\n", service(number));
    let mut timed = || -> Result<f64> {
        let sent = Instant::now();
        std::io::Write::write_all(&mut stream, request.as_bytes())?;
        read_answer(&mut stream)?;
        Ok(sent.elapsed().as_secs_f64() * 1e6)
    };
    let first = timed();
    start.wait();
    Ok([first?, timed()?])
}

fn connect(sidecar: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&sidecar, Duration::from_secs(1))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    Ok(stream)
}
