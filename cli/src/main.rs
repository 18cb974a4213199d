//! The `drydock` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::commands::main(std::env::args_os())
}
