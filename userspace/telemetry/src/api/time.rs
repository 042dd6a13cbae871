//! A moment, as flows show it.

use std::{fmt, time::SystemTime};

use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// A moment, written in RFC 3339 with milliseconds, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(jiff::Timestamp);

impl Time {
    /// This moment.
    pub fn now() -> Self {
        Self(jiff::Timestamp::now())
    }

    /// The time of day in `zone`: `12:01:02.123`.
    pub fn clock(self, zone: &TimeZone) -> String {
        self.0.to_zoned(zone.clone()).strftime("%H:%M:%S%.3f").to_string()
    }
}

impl From<SystemTime> for Time {
    /// Times outside of the years -9999 to 9999 are shown as 1970.
    fn from(time: SystemTime) -> Self {
        Self(time.try_into().unwrap_or(jiff::Timestamp::UNIX_EPOCH))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.0)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map(Self).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::Time;

    #[test]
    fn a_time_has_milliseconds_even_when_they_are_zero() {
        let whole = Time::from(SystemTime::UNIX_EPOCH + Duration::from_hours(24));
        assert_eq!(whole.to_string(), "1970-01-02T00:00:00.000Z");
        let fine = Time::from(SystemTime::UNIX_EPOCH + Duration::from_nanos(1_234_567_890));
        assert_eq!(fine.to_string(), "1970-01-01T00:00:01.234Z");
        let read: Time = serde_json::from_str("\"1970-01-01T00:00:01.234Z\"").unwrap();
        assert_eq!(read.to_string(), fine.to_string());
    }
}
