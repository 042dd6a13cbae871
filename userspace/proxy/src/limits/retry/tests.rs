use proptest::prelude::*;
use weft_model::RetryBudget;

use super::*;
use crate::draw::{Dice, tests::Script};

fn policy(attempts: u32) -> Retry {
    Retry { attempts, codes: vec![502, 503], grpc_codes: vec![14], backoff: Retry::BACKOFF }
}

fn tries(policy: Option<&Retry>) -> Tries<'_> {
    Tries { policy, made: 1, replayable: true, idempotent: true, left: None }
}

fn plenty() -> Budget {
    Budget::new(RetryBudget { min_retries: u32::MAX, ..RetryBudget::default() })
}

fn decided(outcome: Outcome, tries: &Tries<'_>) -> Decision {
    decide(outcome, tries, &plenty(), Moment::START, &mut Script(vec![0.0]))
}

const ALL: [Outcome; 12] = [
    Outcome::Unsent,
    Outcome::StaleConnection,
    Outcome::ConnectFailed,
    Outcome::RefusedStream,
    Outcome::ResetBeforeHead,
    Outcome::TimedOut,
    Outcome::Status(503),
    Outcome::Grpc(14),
    Outcome::Status(500),
    Outcome::Grpc(13),
    Outcome::ResetAfterHead,
    Outcome::InjectedAbort,
];

#[test]
fn without_a_policy_only_what_reached_no_app_is_tried_again_and_at_once() {
    for (index, outcome) in ALL.into_iter().enumerate() {
        let expected =
            if index < 4 { Decision::Retry(Duration::ZERO) } else { Decision::GiveUp(GiveUp::NotRetried) };
        assert_eq!(decided(outcome, &tries(None)), expected, "{outcome:?}");
        let second = Tries { made: 2, ..tries(None) };
        let over = decided(outcome, &second) == Decision::GiveUp(GiveUp::Attempts);
        assert_eq!(over, (2..4).contains(&index), "{outcome:?}");
    }
}

#[test]
fn a_policy_says_which_answers_and_every_failure_before_one_counts() {
    let two = policy(2);
    for (index, outcome) in ALL.into_iter().enumerate() {
        let expected = match index {
            0..2 => Decision::Retry(Duration::ZERO),
            2..8 => Decision::Retry(Retry::BACKOFF),
            _ => Decision::GiveUp(GiveUp::NotRetried),
        };
        assert_eq!(decided(outcome, &tries(Some(&two))), expected, "{outcome:?}");
    }
}

#[test]
fn attempts_are_the_tries_after_the_first_and_none_is_none() {
    for (attempts, made, goes_on) in [(2, 1, true), (2, 2, true), (2, 3, false), (0, 1, false)] {
        let policy = policy(attempts);
        let decision = decided(Outcome::ConnectFailed, &Tries { made, ..tries(Some(&policy)) });
        assert_eq!(decision != Decision::GiveUp(GiveUp::Attempts), goes_on, "{made} of {attempts}");
    }
}

#[test]
fn a_post_is_not_repeated_unasked_on_a_connection_that_may_have_carried_it() {
    let post = Tries { idempotent: false, ..tries(None) };
    assert_eq!(decided(Outcome::StaleConnection, &post), Decision::GiveUp(GiveUp::NotRetried));
    assert_eq!(decided(Outcome::ConnectFailed, &post), Decision::Retry(Duration::ZERO));
    let asked = policy(1);
    let post = Tries { policy: Some(&asked), ..post };
    assert_eq!(decided(Outcome::StaleConnection, &post), Decision::Retry(Duration::ZERO));
    let never = policy(0);
    let post = Tries { policy: Some(&never), ..post };
    assert_eq!(decided(Outcome::StaleConnection, &post), Decision::GiveUp(GiveUp::Attempts));
}

#[test]
fn what_was_not_sent_is_sent_whatever_method_policy_and_budget_say() {
    let (never, nothing) = (policy(0), Budget::new(RetryBudget { min_retries: 0, ..RetryBudget::default() }));
    let post = Tries { idempotent: false, made: 5, ..tries(Some(&never)) };
    let decide = |tries| decide(Outcome::Unsent, tries, &nothing, Moment::START, &mut Dice::seeded(1));
    assert_eq!(decide(&post), Decision::Retry(Duration::ZERO));
    assert_eq!(decide(&Tries { replayable: false, ..post }), Decision::GiveUp(GiveUp::Body));
}

#[test]
fn a_body_that_is_not_kept_or_a_deadline_too_near_ends_it() {
    let policy = policy(2);
    let base = tries(Some(&policy));
    let sent = Tries { replayable: false, ..base };
    assert_eq!(decided(Outcome::Status(503), &sent), Decision::GiveUp(GiveUp::Body));
    for (left, expected) in [(25, Decision::GiveUp(GiveUp::Deadline)), (26, Decision::Retry(Retry::BACKOFF))]
    {
        let late = Tries { left: Some(Duration::from_millis(left)), ..base };
        assert_eq!(decided(Outcome::Status(503), &late), expected, "{left} ms are left");
    }
    let over = Tries { left: Some(Duration::ZERO), ..tries(None) };
    assert_eq!(decided(Outcome::ConnectFailed, &over), Decision::GiveUp(GiveUp::Deadline));
}

#[test]
fn the_budget_holds_for_default_retries_too_and_pays_only_for_tries_that_are_made() {
    let budget = Budget::new(RetryBudget { min_retries: 1, percent: 0, ..RetryBudget::default() });
    let ask = |tries: &Tries<'_>| {
        decide(Outcome::ConnectFailed, tries, &budget, Moment::START, &mut Dice::seeded(1))
    };
    assert_eq!(ask(&Tries { replayable: false, ..tries(None) }), Decision::GiveUp(GiveUp::Body));
    assert_eq!(ask(&tries(None)), Decision::Retry(Duration::ZERO));
    assert_eq!(ask(&tries(None)), Decision::GiveUp(GiveUp::Budget));
}

#[test]
fn waits_double_up_to_ten_times_the_least() {
    for (made, most) in [(1, 50), (2, 100), (3, 200), (4, 250), (5, 250), (u32::MAX, 250)] {
        let wait = |draw| backoff(Retry::BACKOFF, made, &mut Script(vec![draw])).as_millis();
        assert_eq!(wait(0.0), 25);
        assert_eq!(wait(0.5), u128::midpoint(25, most), "after {made} tries");
        assert_eq!(wait(0.999_999), most - 1, "after {made} tries");
    }
}

proptest! {
    #[test]
    fn a_wait_is_never_shorter_than_the_policy_says(least in 0_u64..10_000, made in 1_u32..40, seed: u64) {
        let least = Duration::from_millis(least);
        let wait = backoff(least, made, &mut Dice::seeded(seed));
        prop_assert!(wait >= least && wait <= least * 10);
    }
}
