//! Connections for opaque bytes: never shared, never kept.

use std::ops::Deref;
use std::rc::Rc;

use tulle_identity::Application;

use super::cluster::Dial;
use super::connect::Life;
use super::failure::{ConnectFailure, LimitKind, Overflow};
use crate::io::Io;
use crate::shared::CountGuard;

/// A connection to an endpoint for opaque bytes; counted until it is dropped.
#[derive(Debug)]
pub struct TcpLease {
    io: Io,
    _life: Life,
    _active: CountGuard,
}

impl Deref for TcpLease {
    type Target = Io;

    fn deref(&self) -> &Io {
        &self.io
    }
}

impl TcpLease {
    /// Closes the connection with a reset.
    pub fn reset(self) {
        self.io.reset();
    }
}

/// A new connection. Nobody waits for a place here: a place may never become free.
pub(super) async fn connect(dial: &Dial) -> Result<TcpLease, ConnectFailure> {
    let life = dial.place().ok_or(Overflow(LimitKind::Connections))?;
    let transport = Rc::clone(&life.transport);
    let io = dial.connect(&transport, Application::Tcp).await?;
    Ok(TcpLease { io, _life: life, _active: dial.endpoint.count_request() })
}
