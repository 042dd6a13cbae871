//! Refusals of the connect hook that another program takes back, by `bpf_set_retval`.
//!
//! The programs count them; whose work it is nobody can tell, so all that stand beside ours are named.

use std::collections::BTreeSet;

/// Whether refusals are taken back.
#[derive(Default)]
pub(crate) struct Overruled {
    /// What was counted when it was looked last.
    count: Option<u64>,
    beside: Option<BTreeSet<String>>,
}

impl Overruled {
    /// Looks again: at what the programs have counted, and at who is `beside` ours now, where that matters. It is over
    /// once none of those is there any more that were when it was seen last.
    pub(crate) fn look(&mut self, count: u64, beside: impl FnOnce() -> BTreeSet<String>) {
        // What was counted before this agent began may be the work of programs that are still there.
        let before = self.count.replace(count);
        if count > before.unwrap_or(0) {
            let now = beside();
            self.beside = (before.is_some() || !now.is_empty()).then_some(now);
        } else if let Some(then) = &self.beside
            && then.is_disjoint(&beside())
        {
            self.beside = None;
        }
    }

    /// How many have been taken back so far, and who was beside ours then; `None` where nobody does it.
    pub(crate) fn told(&self) -> Option<(u64, &BTreeSet<String>)> {
        Some((self.count?, self.beside.as_ref()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn it_is_told_from_the_first_one_on_until_those_who_were_beside_us_have_gone() {
        let mut overruled = Overruled::default();
        overruled.look(0, || names(&["innocent"]));
        overruled.look(0, || names(&["innocent", "forgiving"]));
        assert_eq!(overruled.told(), None, "to be there is no harm");
        overruled.look(2, || names(&["forgiving"]));
        assert_eq!(overruled.told(), Some((2, &names(&["forgiving"]))));
        overruled.look(2, || names(&["forgiving", "late"]));
        assert_eq!(overruled.told(), Some((2, &names(&["forgiving"]))));
        overruled.look(2, || names(&["late"]));
        assert_eq!(overruled.told(), None);
    }

    #[test]
    fn what_an_earlier_agent_saw_is_told_while_anybody_is_there_who_may_have_done_it() {
        let mut overruled = Overruled::default();
        overruled.look(5, BTreeSet::new);
        assert_eq!(overruled.told(), None);
        let mut overruled = Overruled::default();
        overruled.look(5, || names(&["forgiving"]));
        assert_eq!(overruled.told(), Some((5, &names(&["forgiving"]))));
    }

    #[test]
    fn one_that_nobody_here_can_see_is_told_all_the_same() {
        let mut overruled = Overruled::default();
        overruled.look(0, BTreeSet::new);
        overruled.look(1, BTreeSet::new);
        assert_eq!(overruled.told(), Some((1, &BTreeSet::new())));
        overruled.look(1, BTreeSet::new);
        assert_eq!(overruled.told(), None);
    }
}
