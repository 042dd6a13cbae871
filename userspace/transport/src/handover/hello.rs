//! The first message of each side, and which version they go on with.

use std::fmt;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::{Error, Peer};

/// The versions that this build speaks.
pub const OURS: Versions = Versions { min: 2, max: 4 };

/// Who is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The versions of the protocol that it speaks.
    pub versions: Versions,
    /// When the process was started, as [`generation`] gives it: the later one has the higher number.
    pub generation: u64,
    /// Its process id: for who says it in its own pid namespace, for who hears it in the hearer's, as the kernel
    /// tells it, if it can be seen there.
    pub pid: u32,
    /// The build, for people.
    pub build: String,
    /// A proxy that was told to finish and takes no pods any more.
    #[serde(default)]
    pub draining: bool,
}

/// Every version from `min` to `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// The oldest.
    pub min: u32,
    /// The newest.
    pub max: u32,
}

/// A number for a process that starts now: higher than that of every process started before on this
/// machine. It needs no memory of earlier ones, so an agent that lost its own cannot give one twice.
pub fn generation() -> u64 {
    let since_boot = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has this clock since 2.6.39");
    u64::try_from(Duration::from(since_boot).as_nanos()).expect("584 years of nanoseconds fit")
}

impl Hello {
    /// The process that calls, with [`OURS`] and this `generation`.
    pub fn of_this_process(generation: u64, build: impl Into<String>) -> Self {
        let (pid, build) = (std::process::id(), build.into());
        Self { versions: OURS, generation, pid, build, draining: false }
    }

    /// The version to speak with `theirs`, who is `peer`.
    pub(super) fn negotiate(&self, peer: Peer, theirs: &Self) -> Result<u32, Error> {
        self.versions.common(theirs.versions).ok_or_else(|| Error::Versions {
            peer,
            build: theirs.build.clone(),
            pid: theirs.pid,
            theirs: theirs.versions,
            ours: self.versions,
        })
    }
}

impl Versions {
    /// The newest version that is in both.
    pub fn common(self, other: Self) -> Option<u32> {
        let newest = self.max.min(other.max);
        (newest >= self.min.max(other.min)).then_some(newest)
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max {
            write!(f, "version {}", self.max)
        } else {
            write!(f, "versions {} to {}", self.min, self.max)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_speak_the_newest_version_that_both_know() {
        let table = [
            ((1, 1), (1, 1), Some(1)),
            ((1, 2), (1, 1), Some(1)),
            ((1, 2), (2, 3), Some(2)),
            ((2, 3), (2, 3), Some(3)),
            ((1, 5), (2, 3), Some(3)),
            ((1, 2), (3, 4), None),
            ((3, 3), (1, 2), None),
            // Nonsense of a peer.
            ((1, 2), (2, 1), None),
            ((1, 2), (0, 0), None),
        ];
        for (one, other, expected) in table {
            let [one, other] = [one, other].map(|(min, max)| Versions { min, max });
            assert_eq!(one.common(other), expected, "{one}, {other}");
            assert_eq!(other.common(one), expected, "{other}, {one}");
        }
    }

    #[test]
    fn this_build_speaks_its_version_and_at_least_the_one_before() {
        let before = OURS.max - 1;
        assert_eq!(OURS.common(Versions { min: before, max: before }), Some(before));
    }

    #[test]
    fn a_refusal_names_both_ranges_and_who_has_to_be_updated() {
        let hello = |min, max| {
            let hello = Hello::of_this_process(1, "weft 7");
            Hello { versions: Versions { min, max }, pid: 42, ..hello }
        };
        let older = hello(4, 5).negotiate(Peer::Proxy, &hello(1, 2)).unwrap_err().to_string();
        assert!(older.contains("versions 1 to 2") && older.contains("versions 4 to 5"), "{older}");
        assert!(
            older.contains("weft 7") && older.contains("42") && older.contains("proxy upgrade"),
            "{older}"
        );
        let newer = hello(1, 2).negotiate(Peer::Proxy, &hello(4, 5)).unwrap_err().to_string();
        assert!(newer.contains("update the agent"), "{newer}");
        let agent = hello(4, 5).negotiate(Peer::Agent, &hello(1, 2)).unwrap_err().to_string();
        assert!(agent.contains("update the agent"), "{agent}");
    }

    #[test]
    fn a_later_generation_has_the_higher_number() {
        let first = generation();
        assert!(first > 0 && generation() > first);
    }
}
