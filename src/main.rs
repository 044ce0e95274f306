//! argv in, exit code out; everything else is in the library.

#![forbid(unsafe_code)]

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> std::process::ExitCode {
    // Lossy: an argument that is not UTF-8 is a mistake to be named, not a reason to panic.
    let args = std::env::args_os().skip(1);
    portico::app::run(args.map(|arg| arg.to_string_lossy().into_owned()))
}
