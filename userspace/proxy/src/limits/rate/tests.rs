use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn ms(n: u64) -> Moment {
    Moment::START.after(Duration::from_millis(n))
}

fn rule(requests: u32, per: Duration, burst: u32, keys: &[LimitKey]) -> RateLimitRule {
    RateLimitRule { requests, per, burst, keys: keys.to_vec() }
}

fn ip(n: u32) -> IpAddr {
    std::net::Ipv4Addr::from_bits(n).into()
}

fn take(limit: &RateLimit, client: u32, now: Moment) -> Result<(), Limited> {
    limit.take(&Source { identity: None, ip: ip(client), headers: &HeaderMap::new() }, now)
}

fn passed(limit: &RateLimit, client: u32, now: Moment) -> usize {
    std::iter::repeat_with(|| take(limit, client, now)).take_while(Result::is_ok).count()
}

#[test]
fn a_full_bucket_lets_its_burst_pass_and_then_its_rate() {
    let limit = RateLimit::new(&[rule(10, SECOND, 20, &[])]);
    assert_eq!(passed(&limit, 1, ms(5)), 20);
    assert_eq!(take(&limit, 1, ms(5)), Err(Limited { rule: 0, wait: Duration::from_millis(100) }));
    assert_eq!(take(&limit, 1, ms(65)).unwrap_err().wait, Duration::from_millis(40));
    assert_eq!(passed(&limit, 1, ms(105)), 1);
    assert_eq!(passed(&limit, 1, ms(605)), 5);
    assert_eq!(passed(&limit, 1, ms(60_000)), 20, "it holds no more than its burst");
}

#[test]
fn units_are_seconds_minutes_and_hours() {
    for (per, wait) in [(SECOND, 250), (Duration::from_mins(1), 15_000), (Duration::from_hours(1), 900_000)] {
        let limit = RateLimit::new(&[rule(4, per, 4, &[])]);
        assert_eq!(passed(&limit, 1, ms(0)), 4);
        assert_eq!(take(&limit, 1, ms(0)).unwrap_err().wait, Duration::from_millis(wait));
    }
}

#[test]
fn retry_after_is_in_whole_seconds_and_never_zero() {
    for (wait, expected) in [(1, 1), (999, 1), (1000, 1), (1001, 2), (900_000, 900)] {
        assert_eq!(Limited { rule: 0, wait: Duration::from_millis(wait) }.retry_after(), expected);
    }
}

#[test]
fn a_rule_of_zero_requests_lets_nothing_pass_and_one_without_burst_one_at_a_time() {
    let none = RateLimit::new(&[rule(0, SECOND, 5, &[])]);
    assert_eq!(take(&none, 1, ms(0)).unwrap_err().retry_after(), 1);
    let one = RateLimit::new(&[rule(10, SECOND, 0, &[])]);
    assert_eq!((passed(&one, 1, ms(0)), passed(&one, 1, ms(100))), (1, 1));
    assert_eq!(passed(&RateLimit::new(&[rule(u32::MAX, SECOND, 3, &[])]), 1, ms(0)), 3);
}

#[test]
fn every_distinct_value_of_the_keys_has_its_own_bucket() {
    let account = |name: &str| ServiceAccount::new("shop", name);
    let (ann, bob) = (account("ann"), account("bob"));
    let header = |value: &str| HeaderMap::from_iter([("x-user".parse().unwrap(), value.parse().unwrap())]);
    let (red, blue, none) = (header("red"), header("blue"), HeaderMap::new());
    let of = |identity, ip, headers| Source { identity, ip, headers };
    let keys = [LimitKey::SourceIdentity, LimitKey::SourceIp, LimitKey::Header("x-user".into())];
    for (key, sources) in [
        (0, [of(Some(&ann), ip(1), &red), of(Some(&bob), ip(1), &red), of(None, ip(1), &red)]),
        (1, [of(None, ip(1), &red), of(None, ip(2), &red), of(None, "fd00::1".parse().unwrap(), &red)]),
        (2, [of(None, ip(1), &red), of(None, ip(1), &blue), of(None, ip(1), &none)]),
    ] {
        let limit = RateLimit::new(&[rule(1, SECOND, 1, &keys[key..=key])]);
        for source in &sources {
            assert!(limit.take(source, ms(0)).is_ok(), "{source:?}");
            assert!(limit.take(source, ms(0)).is_err(), "{source:?}");
        }
        // Any other key tells them apart no more than none does.
        let other = RateLimit::new(&[rule(1, SECOND, 1, &keys[(key + 1) % 3..][..1])]);
        assert!(other.take(&sources[0], ms(0)).is_ok());
        assert!(other.take(&sources[1], ms(0)).is_err());
    }
    let both = RateLimit::new(&[rule(1, SECOND, 1, &keys)]);
    assert!(both.take(&of(Some(&ann), ip(1), &red), ms(0)).is_ok());
    assert!(both.take(&of(Some(&ann), ip(2), &red), ms(0)).is_ok());
    assert!(both.take(&of(Some(&ann), ip(1), &red), ms(0)).is_err());
}

#[test]
fn one_headers_value_is_not_anothers() {
    let keys = ["x-one", "x-two"].map(|name| LimitKey::Header(name.into()));
    let limit = RateLimit::new(&[rule(1, SECOND, 1, &keys)]);
    for name in ["x-one", "x-two"] {
        let headers = HeaderMap::from_iter([(name.parse().unwrap(), "1".parse().unwrap())]);
        assert!(
            limit.take(&Source { identity: None, ip: ip(1), headers: &headers }, ms(0)).is_ok(),
            "{name}"
        );
    }
}

#[test]
fn a_rule_that_refuses_costs_no_token_of_another() {
    let limit = RateLimit::new(&[rule(10, SECOND, 10, &[]), rule(1, SECOND, 1, &[LimitKey::SourceIp])]);
    assert!(take(&limit, 1, ms(0)).is_ok());
    for _ in 0..100 {
        assert_eq!(take(&limit, 1, ms(0)).unwrap_err().rule, 1);
    }
    let others = (2..100).filter(|client| take(&limit, *client, ms(0)).is_ok()).count();
    assert_eq!(others, 9, "the first rule has ten, the refused took none");
    assert_eq!(take(&limit, 1, ms(0)).unwrap_err(), Limited { rule: 1, wait: SECOND }, "the longest wait");
}

#[test]
fn any_number_of_rules_holds() {
    for rules in [0, 1, 8, 9, 20] {
        let all: Vec<_> = (0..rules).map(|n| rule(1, SECOND, 100 - n, &[LimitKey::SourceIp])).collect();
        let limit = RateLimit::new(&all);
        let passes = (0..1000).take_while(|_| take(&limit, 1, ms(0)).is_ok()).count();
        assert_eq!(passes, if rules == 0 { 1000 } else { 101 - rules as usize });
    }
}

#[test]
fn values_over_the_bound_share_one_bucket_until_idle_ones_make_room() {
    let limit = RateLimit::new(&[rule(1, SECOND, 2, &[LimitKey::SourceIp])]);
    let bound = u32::try_from(KEYS).unwrap();
    for client in 0..bound {
        assert!(take(&limit, client, ms(0)).is_ok());
    }
    assert!(take(&limit, bound, ms(1)).is_ok());
    assert!(take(&limit, bound + 1, ms(1)).is_ok());
    assert!(take(&limit, bound + 2, ms(1)).is_err(), "two tokens for all of them");
    assert!(take(&limit, 7, ms(1)).is_ok(), "who has a bucket keeps it");
    assert_eq!(limit.buckets.lock().unwrap()[0].full_at.len(), KEYS);
    assert!(take(&limit, bound + 2, ms(1_002)).is_ok(), "all but one were idle for long enough");
    assert!(limit.buckets.lock().unwrap()[0].full_at.len() <= 2);
    assert!(take(&limit, 7, ms(1_002)).is_ok());
    assert!(take(&limit, 7, ms(1_002)).is_err(), "and that one was not forgotten");
}

#[test]
fn threads_take_no_more_than_there_is() {
    let limit = RateLimit::new(&[rule(1, Duration::from_hours(1), 1000, &[])]);
    let passed: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..1000).filter(|_| take(&limit, 1, ms(0)).is_ok()).count()))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(passed, 1000);
}

proptest! {
    /// A bucket that counts tokens, as a book would have it.
    #[test]
    fn a_bucket_is_a_token_bucket(
        requests in 1_u32..20,
        burst in 1_u32..30,
        waits in proptest::collection::vec(0_u64..400, 1..200),
    ) {
        let per = Duration::from_secs(u64::from(requests)); // one token a second: no rounding
        let limit = RateLimit::new(&[rule(requests, per, burst, &[])]);
        let (mut now, mut milli_tokens) = (0, u64::from(burst) * 1000);
        for wait in waits {
            now += wait;
            milli_tokens = (milli_tokens + wait).min(u64::from(burst) * 1000);
            let has = milli_tokens >= 1000;
            let answer = take(&limit, 1, ms(now));
            prop_assert_eq!(answer.is_ok(), has);
            if has {
                milli_tokens -= 1000;
            } else {
                prop_assert_eq!(answer.unwrap_err().wait, Duration::from_millis(1000 - milli_tokens));
            }
        }
    }
}
