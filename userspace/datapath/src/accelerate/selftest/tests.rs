use super::*;

#[test]
fn a_failure_names_the_step_and_both_outcomes() {
    let failure = same("echo", &1, &2).unwrap_err().to_string();
    assert_eq!(failure, "echo: expected 1, found 2");
}
