//! What a peer did wrong.

use thiserror::Error;

/// A message that is refused. In a request it is answered with [`Violation::status`] and the
/// connection closes; in a response it is an upstream protocol error (502, flag `UPE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Violation {
    #[error("the first line is not a request line")]
    RequestLine,
    #[error("the first line is not a status line")]
    StatusLine,
    #[error("a line does not end in CRLF")]
    LineEnding,
    #[error("the request target is not one of the four forms or not one for its method")]
    Target,
    #[error("HTTP/1.0 is not accepted here")]
    OldVersion,
    #[error("the HTTP version is neither 1.0 nor 1.1")]
    Version,
    #[error("a header name is not a token followed by a colon, or the line is folded")]
    FieldName,
    #[error("a header value holds a control byte")]
    FieldValue,
    #[error("a header name holds an underscore")]
    Underscore,
    #[error("the head is larger than the limit")]
    HeadTooLarge,
    #[error("the head has more fields than the limit")]
    TooManyFields,
    #[error("there is no Host")]
    MissingHost,
    #[error("there is more than one Host")]
    SeveralHosts,
    #[error("the Host is not a valid host and port")]
    InvalidHost,
    #[error("the Content-Length is not one decimal number")]
    ContentLength,
    #[error("the Transfer-Encoding is not exactly one chunked")]
    TransferEncoding,
    #[error("the Transfer-Encoding names a coding that is not supported")]
    TransferCoding,
    #[error("both Content-Length and Transfer-Encoding are present")]
    BothFramings,
    #[error("a Transfer-Encoding is not allowed in this message")]
    TransferEncodingNotAllowed,
    #[error("a Content-Length is not allowed in this response")]
    ContentLengthNotAllowed,
    #[error("a body is not allowed in a CONNECT request")]
    ConnectBody,
    #[error("Connection names a field that is not hop-by-hop, or is malformed")]
    ConnectionOption,
    #[error("switching protocols was not asked for")]
    UnexpectedUpgrade,
    #[error("a chunk size is not 1 to 16 hexadecimal digits")]
    ChunkSize,
    #[error("a chunk extension is malformed")]
    ChunkExtension,
    #[error("the chunk extensions of one message are larger than the limit")]
    ChunkExtensionsTooLarge,
    #[error("a chunk's content is not followed by CRLF")]
    ChunkEnd,
    #[error("the trailer section names a field that may not stand there")]
    ForbiddenTrailer,
    #[error("the trailer section is larger than the limit")]
    TrailersTooLarge,
    #[error("the trailer section has more fields than the limit")]
    TooManyTrailers,
}

impl Violation {
    /// The status with which a request that does this is answered.
    pub const fn status(self) -> u16 {
        match self {
            // RFC 9110 has 505 for the second; 426 is Envoy's for both.
            Violation::OldVersion | Violation::Version => 426,
            Violation::TransferCoding => 501,
            Violation::HeadTooLarge
            | Violation::TooManyFields
            | Violation::TrailersTooLarge
            | Violation::TooManyTrailers => 431,
            _ => 400,
        }
    }

    /// The response code detail (`%RESPONSE_CODE_DETAILS%`), by Envoy's names.
    pub const fn detail(self) -> &'static str {
        match self {
            Violation::Target => "http1.invalid_url",
            Violation::OldVersion => "low_version",
            Violation::FieldValue => "http1.invalid_characters",
            Violation::Underscore => "http1.unexpected_underscore",
            Violation::HeadTooLarge | Violation::TrailersTooLarge => "http1.headers_too_large",
            Violation::TooManyFields | Violation::TooManyTrailers => "http1.too_many_headers",
            Violation::MissingHost => "missing_host_header",
            Violation::InvalidHost | Violation::SeveralHosts => "http.invalid_authority",
            Violation::TransferEncoding | Violation::TransferCoding => {
                "http1.invalid_transfer_encoding"
            }
            Violation::BothFramings => "http1.content_length_and_chunked_not_allowed",
            Violation::TransferEncodingNotAllowed => "http1.transfer_encoding_not_allowed",
            Violation::ContentLengthNotAllowed => "http1.content_length_not_allowed",
            Violation::ConnectBody => "http1.body_disallowed",
            Violation::ConnectionOption => "http1.connection_header_rejected",
            _ => "http1.codec_error",
        }
    }
}
