//! Where `tulle-proxy` differs from Envoy on purpose. At most ten, each with its reason and with
//! exactly what differs: anything else in the same row is a fault.

/// A row whose transcripts differ.
#[derive(Debug, Clone, Copy)]
pub struct Difference {
    /// Its name.
    pub row: &'static str,
    /// Why that is better.
    pub why: &'static str,
    /// A part of each line that only one side has, in their order: Envoy's `-`, ours `+`.
    pub lines: &'static [&'static str],
}

/// Every deliberate difference.
pub const DELIBERATE: [Difference; 9] = [
    Difference {
        row: "interim-hints",
        why: "interim responses are passed on, as RFC 9110 §15.2 asks; Envoy drops them",
        lines: &["+ interim HTTP/1.1 103", "+   header link: </a>", "+   framing none"],
    },
    Difference {
        row: "upstream-101-unasked",
        why: "a switch of protocols that nobody asked for is a protocol error, not an answer",
        lines: &[
            "- response HTTP/1.1 101",
            "-   framing none",
            "+ response HTTP/1.1 502",
            "+   header content-length: 87",
            "+   header content-type: text/plain",
            "+   framing length",
            "+   body",
        ],
    },
    Difference {
        row: "head-none",
        why: "HEAD is told of no chunks that GET would not get; Envoy announces them where its own \
              answer has no body",
        lines: &["-   header transfer-encoding: chunked"],
    },
    Difference {
        row: "tcp-client-reset",
        why: "a reset is passed on as a reset; Envoy ends the upstream in good order",
        lines: &["-   closed End", "+   closed Reset"],
    },
    Difference {
        row: "record-overflow",
        why: "a limit is looked at before an endpoint is chosen: there is no endpoint to name",
        lines: &[
            "UO upstream_reset_before_response_started{overflow} 0 81 full full 127",
            "full - 0 -",
        ],
    },
    Difference {
        row: "record-cut",
        why: "an upstream that closed its connection is said to have done so; Envoy's codec calls \
              the end it did not expect a protocol error",
        lines: &[" 200 UPE ", " 200 UC "],
    },
    Difference {
        row: "record-garbage",
        why: "the details of a protocol error say which rule was broken",
        lines: &["{protocol_error} ", "{protocol_error|http1.codec_error} "],
    },
    Difference {
        row: "record-duration",
        why: "a stream at the end of its life has a flag; Envoy flags connections only",
        lines: &[" 504 - max_duration_timeout", " 504 DT max_duration_timeout"],
    },
    Difference {
        row: "record-both-framings",
        why: "what was read of a request that is refused is written down",
        lines: &["- logged - - ", "+ logged POST /a "],
    },
];

/// More deliberate differences than this are no longer deliberate.
pub const LIMIT: usize = 10;

/// The difference that a row is meant to have.
#[must_use]
pub fn of(row: &str) -> Option<&'static Difference> {
    DELIBERATE.iter().find(|difference| difference.row == row)
}

impl Difference {
    /// Whether `shown` (lines as a disagreement shows them) is exactly this.
    #[must_use]
    pub fn is(&self, shown: &str) -> bool {
        let differing = |line: &&str| line.trim_start().starts_with(['-', '+']);
        let differing: Vec<&str> = shown.lines().filter(differing).collect();
        let same = |(line, part): (&&str, &&str)| line.trim_start().contains(part);
        differing.len() == self.lines.len() && differing.iter().zip(self.lines).all(same)
    }
}
