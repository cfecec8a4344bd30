//! The `ccpgate` command; everything is in the library.

fn main() -> std::process::ExitCode {
    ccpgate::cli::run()
}
