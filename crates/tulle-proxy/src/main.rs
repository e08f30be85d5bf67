//! The data plane's process: settings in, exit code out. Everything else is in the library.

use std::process::ExitCode;

use tulle_proxy::settings::Settings;

/// Small and quick with the many short-lived buffers of a proxy.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match Settings::parse(std::env::args_os()) {
        Ok(settings) => tulle_proxy::app::run(settings),
        Err(usage) => {
            // Nothing is left to say if stderr is gone.
            let _ = usage.print();
            ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(2))
        }
    }
}
