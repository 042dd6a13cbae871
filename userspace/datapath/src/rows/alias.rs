//! Alias tables: a weighted draw in constant time (Walker 1974, in Vose's form of 1991).

use std::collections::HashMap;

use weft_abi::Slot;

/// One slot for each choice, such that a uniform slot and a 16-bit coin draw each choice by its weight,
/// exact to 1/65536 of a slot. Equal weights need no coin. Where the backends are is not in it yet.
pub fn table(choices: &[u64], weights: &[f64]) -> Vec<Slot> {
    let total: f64 = weights.iter().sum();
    #[expect(clippy::cast_precision_loss, reason = "a Service has fewer than 2^52 endpoints")]
    let mut scaled: Vec<f64> = weights.iter().map(|weight| weight * choices.len() as f64 / total).collect();
    let whole =
        |slot: usize| Slot { backend: choices[slot], alias: index(slot), threshold: FULL, ..Slot::zeroed() };
    let mut slots: Vec<Slot> = (0..choices.len()).map(whole).collect();
    let (mut small, mut large): (Vec<_>, Vec<_>) =
        (0..choices.len()).partition(|&slot| scaled[slot] < 1.0 - TINY);
    while let (Some(poor), Some(&rich)) = (small.pop(), large.last()) {
        slots[poor].alias = index(rich);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 65536")]
        let threshold = (scaled[poor] * f64::from(FULL)).round() as u32;
        slots[poor].threshold = threshold;
        scaled[rich] -= 1.0 - scaled[poor];
        if scaled[rich] < 1.0 - TINY {
            large.pop();
            small.push(rich);
        }
    }
    slots
}

/// The share of each choice that `slots` draw.
pub fn shares(slots: &[Slot]) -> HashMap<u64, f64> {
    let mut shares = HashMap::new();
    #[expect(clippy::cast_precision_loss, reason = "a Service has fewer than 2^52 endpoints")]
    let each = 1.0 / slots.len() as f64;
    for slot in slots {
        let own = f64::from(slot.threshold) / f64::from(FULL);
        *shares.entry(slot.backend).or_default() += own * each;
        if let Some(alias) = slots.get(slot.alias as usize) {
            *shares.entry(alias.backend).or_default() += (1.0 - own) * each;
        }
    }
    shares
}

fn index(slot: usize) -> u32 {
    u32::try_from(slot).expect("a Service has fewer than 2^32 endpoints")
}

const FULL: u32 = 65_536;
/// Rounding that must not make a coin necessary.
const TINY: f64 = 1e-9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_weights_need_no_coin() {
        let slots = table(&[1, 2, 3], &[0.1, 0.1, 0.1]);
        assert!(slots.iter().all(|slot| slot.threshold == FULL), "{slots:?}");
    }

    #[test]
    fn each_choice_gets_its_weight() {
        for weights in [vec![9.0, 1.0], vec![70.0, 30.0], vec![1.0, 2.0, 3.0, 4.0, 90.0], vec![1.0, 1e-7]] {
            let choices: Vec<u64> = (1..=weights.len() as u64).collect();
            let total: f64 = weights.iter().sum();
            let shares = shares(&table(&choices, &weights));
            for (choice, weight) in choices.iter().zip(&weights) {
                assert!((shares[choice] - weight / total).abs() < 1e-4, "{weights:?}: {shares:?}");
            }
        }
    }

    #[test]
    fn nothing_to_choose_from_is_an_empty_table() {
        assert!(table(&[], &[]).is_empty());
    }
}
