//! Access logs: where lines go and what they say.

use prost_types::Struct;
use prost_types::value::Kind;
use tulle_model::access_log::{AccessLog, DEFAULT_FORMAT, LogFormat, LogSink};
use tulle_model::header_edit::Template;
use tulle_model::tls::DataSource;

use super::tls;
use super::value::{typed, unknown_type};
use crate::fields;
use crate::fields::At;
use crate::proto::Packed;
use crate::proto::envoy::config::accesslog::v3 as accesslog;
use crate::proto::envoy::config::core::v3 as core;
use crate::proto::envoy::extensions::access_loggers::file::v3 as file;
use crate::proto::envoy::extensions::access_loggers::stream::v3 as stream;

/// One access log.
pub fn access_log(message: accesslog::AccessLog, at: &At<'_>) -> Option<AccessLog> {
    use accesslog::access_log::ConfigType;
    fields!(at, message => accesslog::AccessLog ["envoy.config.accesslog.v3.AccessLog"] {
        label: name;
        used: config_type;
        warned: filter "every request is logged";
    });
    let Some(ConfigType::TypedConfig(any)) = config_type else {
        return at.field("typed_config").fail("is missing");
    };
    let at = at.field("typed_config");
    match any.type_url.as_str() {
        file::FileAccessLog::TYPE_URL => to_file(typed(&any, &at)?, &at),
        stream::StdoutAccessLog::TYPE_URL => {
            let format = stdout_format(typed(&any, &at)?, &at)?;
            Some(AccessLog { sink: LogSink::Stdout, format })
        }
        stream::StderrAccessLog::TYPE_URL => {
            let format = stderr_format(typed(&any, &at)?, &at)?;
            Some(AccessLog { sink: LogSink::Stderr, format })
        }
        _ => unknown_type(&any, &at),
    }
}

fn to_file(message: file::FileAccessLog, at: &At<'_>) -> Option<AccessLog> {
    use file::file_access_log::AccessLogFormat;
    fields!(at, message => file::FileAccessLog
        ["envoy.extensions.access_loggers.file.v3.FileAccessLog"] {
        used: path, access_log_format;
    });
    let sink = match path.as_str() {
        "" => return at.field("path").fail("is missing"),
        "/dev/stdout" => LogSink::Stdout,
        "/dev/stderr" => LogSink::Stderr,
        _ => LogSink::File(path.into()),
    };
    let format = match access_log_format {
        None => text(DEFAULT_FORMAT, at)?,
        Some(AccessLogFormat::Format(format)) => text(&format, &at.field("format"))?,
        Some(AccessLogFormat::JsonFormat(format)) => json(format, &at.field("json_format"))?,
        Some(AccessLogFormat::TypedJsonFormat(format)) => {
            json(format, &at.field("typed_json_format"))?
        }
        Some(AccessLogFormat::LogFormat(format)) => log_format(Some(format), at)?,
    };
    Some(AccessLog { sink, format })
}

fn stdout_format(message: stream::StdoutAccessLog, at: &At<'_>) -> Option<LogFormat> {
    use stream::stdout_access_log::AccessLogFormat;
    fields!(at, message => stream::StdoutAccessLog
        ["envoy.extensions.access_loggers.stream.v3.StdoutAccessLog"] {
        used: access_log_format;
    });
    log_format(access_log_format.map(|AccessLogFormat::LogFormat(format)| format), at)
}

fn stderr_format(message: stream::StderrAccessLog, at: &At<'_>) -> Option<LogFormat> {
    use stream::stderr_access_log::AccessLogFormat;
    fields!(at, message => stream::StderrAccessLog
        ["envoy.extensions.access_loggers.stream.v3.StderrAccessLog"] {
        used: access_log_format;
    });
    log_format(access_log_format.map(|AccessLogFormat::LogFormat(format)| format), at)
}

fn log_format(message: Option<core::SubstitutionFormatString>, at: &At<'_>) -> Option<LogFormat> {
    use core::substitution_format_string::Format;
    let Some(message) = message else {
        return text(DEFAULT_FORMAT, at);
    };
    let at = at.field("log_format");
    fields!(at, message => core::SubstitutionFormatString
        ["envoy.config.core.v3.SubstitutionFormatString"] {
        used: format;
        refused: formatters "commands are not extended";
        warned: omit_empty_values "missing values are written as `-` or null",
            content_type "a log has none", json_format_options "keys are always sorted";
    });
    match format {
        Some(Format::TextFormat(format)) => text(&format, &at.field("text_format")),
        Some(Format::JsonFormat(format)) => json(format, &at.field("json_format")),
        Some(Format::TextFormatSource(source)) => {
            let at = at.field("text_format_source");
            match tls::data_source(source, &at)? {
                DataSource::Inline(bytes) => text(&String::from_utf8_lossy(&bytes), &at),
                DataSource::File(_) => at.field("filename").fail("write the text in place"),
            }
        }
        None => at.fail("a format is missing"),
    }
}

fn text(format: &str, at: &At<'_>) -> Option<LogFormat> {
    match Template::parse(format) {
        Ok(template) => Some(LogFormat::Text(template)),
        Err(text) => at.fail(text),
    }
}

fn json(format: Struct, at: &At<'_>) -> Option<LogFormat> {
    let mut fields = Vec::with_capacity(format.fields.len());
    for (key, value) in format.fields {
        let at = at.field(&key);
        let Some(Kind::StringValue(value)) = value.kind else {
            at.error("has to be a string; nested formats are not supported");
            continue;
        };
        match Template::parse(&value) {
            Ok(template) => fields.push((key.as_str().into(), template)),
            Err(text) => at.error(text),
        }
    }
    Some(LogFormat::Json(fields))
}
