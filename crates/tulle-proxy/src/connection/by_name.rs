//! A redirected connection to an address that nobody owns belongs to whoever has the name that it
//! gives in its first bytes (design D6): a server name decides over the connection, a host over
//! its request. Where nobody has the name, or it gives none, it goes on as it is, byte for byte.

use tokio::net::TcpStream;
use tulle_model::decide::request::{self, Named, Opening};
use tulle_model::head::RequestHead;
use tulle_model::listener::OnDemand;
use tulle_model::lookup::Absence;
use tulle_model::snapshot::Snapshot;

use super::Unheard;
use crate::http::codec::h1::{CodecSettings, HeadParser};
use crate::listener::inspect::peek::{Scratch, judged};
use crate::listener::inspect::{Protocol, Verdict};
use crate::store::InVain;
use crate::store::uses::Use;

impl Unheard {
    /// What the connection is taken for, and the name that it is in use by, if it was handed over.
    ///
    /// # Errors
    /// It cannot be known who has its name.
    pub(super) async fn named(
        &mut self,
        protocol: Protocol,
    ) -> Result<(Protocol, Option<Use>), Absence> {
        let transparent = self.listener.on_demand == OnDemand::Transparent;
        let Some(original) = self.original.filter(|_| transparent) else {
            return Ok((protocol, None));
        };
        let head;
        let opening = match &protocol {
            Protocol::Tls(hello) => Opening::Tls(&hello.server_name),
            Protocol::H2 => Opening::Requests,
            Protocol::Other => Opening::Bytes,
            Protocol::Http10 | Protocol::Http11 => {
                head = first_head(&self.stream, &self.worker.scratch).await;
                head.as_ref().map_or(Opening::Bytes, Opening::Request)
            }
        };
        let store = &self.worker.store;
        let find = |snapshot: &Snapshot| {
            request::named(snapshot, &self.listener, original, opening, &mut ())
        };
        let named = match store.decide(InVain::Passes, find).await {
            Ok(named) => named?,
            Err(absence) if absence.may_pass() => Named::Nobody,
            Err(absence) => return Err(absence),
        };
        match named {
            Named::Listener(owner) => {
                let used =
                    store.use_name(&format!("{}:{}", protocol.server_name(), original.port()));
                self.listener = owner;
                Ok((protocol, used))
            }
            Named::Requests => Ok((protocol, None)),
            Named::Nobody if protocol.is_http() => Ok((Protocol::Other, None)),
            Named::Nobody => Ok((protocol, None)),
        }
    }
}

/// The head of the first request, of which not a byte is taken. `None` if it is none that could be
/// read: whoever it goes to will say so.
async fn first_head(stream: &TcpStream, scratch: &Scratch) -> Option<RequestHead> {
    let settings = CodecSettings { accept_http_10: true, ..CodecSettings::default() };
    let (mut parser, mut head) = (HeadParser::new(), RequestHead::new());
    let read = judged(stream, scratch, |bytes, ended| {
        match parser.parse_request(bytes, &mut head, &settings) {
            Ok(Some(_)) => Verdict::Found(true),
            Ok(None) if !ended => Verdict::NeedMore(bytes.len() + 1),
            Ok(None) | Err(_) => Verdict::Found(false),
        }
    });
    let (is_read, _) = read.await.ok()?;
    is_read.then_some(head)
}
