//! Stands in a pod's place for the tests; see `weft_tests::helper`.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    weft_tests::helper::main(&arguments)
}
