//! placeholder
use std::rc::Rc;
use std::sync::Arc;
use tulle_model::listener::{Listener, TcpProxy};
use crate::http::context::Downstream;
use crate::io::Io;
use crate::worker::Worker;
pub struct TcpContext { pub worker: Rc<Worker>, pub listener: Arc<Listener>, pub proxy: Arc<TcpProxy>, pub downstream: Downstream }
pub async fn serve(_cx: TcpContext, _io: Io) {}
