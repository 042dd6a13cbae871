//! Fault injection: who is delayed, who is aborted.

use std::time::Duration;

use weft_model::{FaultInjection, Fraction};

use crate::draw::Draw;

/// What is done to one request. The delay comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// How long it waits.
    pub delay: Option<Duration>,
    /// What it is answered with, an HTTP status or a gRPC code. Never tried again.
    pub abort: Option<Result<u16, u32>>,
}

/// Draws for each fault by itself: a request may be delayed and aborted.
pub fn draw(faults: &FaultInjection, dice: &mut impl Draw) -> Fault {
    let delay = faults.delay.filter(|delay| hits(delay.share, dice));
    let abort = faults.abort.filter(|abort| hits(abort.share, dice));
    Fault { delay: delay.map(|delay| delay.time), abort: abort.map(|abort| abort.status) }
}

/// Whether a draw falls into `share`.
pub fn hits(share: Fraction, dice: &mut impl Draw) -> bool {
    dice.below(u64::from(share.denominator)) < u64::from(share.numerator)
}

#[cfg(test)]
mod tests {
    use weft_model::{Abort, Delay};

    use super::*;
    use crate::draw::{Dice, tests::Script};

    fn share(numerator: u32, denominator: u32) -> Fraction {
        Fraction { numerator, denominator }
    }

    fn both(delay: Fraction, abort: Fraction) -> FaultInjection {
        FaultInjection {
            delay: Some(Delay { time: Duration::from_secs(1), share: delay }),
            abort: Some(Abort { status: Ok(503), share: abort }),
        }
    }

    #[test]
    fn each_fault_is_drawn_by_itself() {
        let faults = both(share(1, 10), share(1, 2));
        let second = Some(Duration::from_secs(1));
        for (draws, delay, abort) in [
            ([0.05, 0.45], second, Some(Ok(503))),
            ([0.05, 0.55], second, None),
            ([0.15, 0.45], None, Some(Ok(503))),
            ([0.15, 0.55], None, None),
        ] {
            assert_eq!(draw(&faults, &mut Script(draws.to_vec())), Fault { delay, abort }, "{draws:?}");
        }
    }

    #[test]
    fn none_is_none_and_all_is_all() {
        let mut dice = Dice::seeded(1);
        let faults = both(share(0, 100), Fraction::ALL);
        for _ in 0..1000 {
            assert_eq!(draw(&faults, &mut dice), Fault { delay: None, abort: Some(Ok(503)) });
        }
        assert_eq!(draw(&FaultInjection { delay: None, abort: None }, &mut dice), Fault::default());
    }

    #[test]
    fn as_many_are_hit_as_the_share_says() {
        let mut dice = Dice::seeded(2);
        let hit = (0..1_000_000).filter(|_| hits(share(1, 1000), &mut dice)).count();
        assert!(hit.abs_diff(1000) < 100, "{hit}");
    }
}
