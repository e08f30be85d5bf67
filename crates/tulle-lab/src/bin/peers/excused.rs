//! Where ours is weaker than most peers on purpose; each line is reviewed.

use crate::report::{Compared, Weakness};

/// A part of what is sent, and why it passes.
const EXCUSED: &[(&str, &str)] = &[(
    "GET /s HTTP/1.1\\r\\nhost: h\\r\\nx: yyyy",
    "a head just within 60 KiB, which is our limit and Envoy's; HAProxy and nginx have buffers of \
     16 and 32 KiB unless told otherwise",
)];

/// Why a request may pass.
pub fn of(compared: &Compared) -> Option<&'static str> {
    EXCUSED.iter().find(|(part, _)| has(compared, part)).map(|(_, why)| *why)
}

/// Excuses that nothing needs any more.
pub fn idle<'w>(weak: &'w [Weakness<'_>]) -> impl Iterator<Item = &'static str> + 'w {
    let needed = |part: &str| weak.iter().any(|weakness| has(weakness.of, part));
    EXCUSED.iter().map(|(part, _)| *part).filter(move |part| !needed(part))
}

fn has(compared: &Compared, part: &str) -> bool {
    compared.sent.escape_ascii().to_string().contains(part)
}
