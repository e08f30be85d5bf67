//! Access logs.

use prost_types::value::Kind;
use prost_types::{Struct, Value};
use tulle_model::access_log::{AccessLog, LogFormat, LogSink};

use crate::proto::envoy::config::accesslog::v3 as accesslog;
use crate::proto::envoy::config::core::v3 as core;
use crate::proto::envoy::extensions::access_loggers::file::v3::{FileAccessLog, file_access_log};
use crate::proto::envoy::extensions::access_loggers::stream::v3 as stream;
use crate::proto::pack;

/// Access logs.
pub fn access_logs(logs: &[AccessLog]) -> Vec<accesslog::AccessLog> {
    logs.iter().map(access_log).collect()
}

fn access_log(log: &AccessLog) -> accesslog::AccessLog {
    use stream::{stderr_access_log, stdout_access_log};
    let AccessLog { sink, format } = log;
    let format = log_format(format);
    let (name, any) = match sink {
        LogSink::Stdout => {
            let format = stdout_access_log::AccessLogFormat::LogFormat(format);
            let message = stream::StdoutAccessLog { access_log_format: Some(format) };
            ("envoy.access_loggers.stdout", pack(&message))
        }
        LogSink::Stderr => {
            let format = stderr_access_log::AccessLogFormat::LogFormat(format);
            let message = stream::StderrAccessLog { access_log_format: Some(format) };
            ("envoy.access_loggers.stderr", pack(&message))
        }
        LogSink::File(path) => {
            let format = file_access_log::AccessLogFormat::LogFormat(format);
            let message = FileAccessLog { path: path.to_string(), access_log_format: Some(format) };
            ("envoy.access_loggers.file", pack(&message))
        }
    };
    accesslog::AccessLog {
        name: name.to_owned(),
        filter: None,
        config_type: Some(accesslog::access_log::ConfigType::TypedConfig(any)),
    }
}

fn log_format(format: &LogFormat) -> core::SubstitutionFormatString {
    use core::data_source::Specifier;
    use core::substitution_format_string::Format;
    let format = match format {
        LogFormat::Text(template) => Format::TextFormatSource(core::DataSource {
            watched_directory: None,
            specifier: Some(Specifier::InlineString(template.to_format())),
        }),
        LogFormat::Json(entries) => {
            let fields = entries.iter().map(|(key, template)| {
                let value = Value { kind: Some(Kind::StringValue(template.to_format())) };
                (key.to_string(), value)
            });
            Format::JsonFormat(Struct { fields: fields.collect() })
        }
    };
    core::SubstitutionFormatString {
        format: Some(format),
        ..core::SubstitutionFormatString::default()
    }
}
