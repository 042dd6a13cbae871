use super::*;

const fn s(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn at(n: u64) -> Moment {
    Moment::START.after(s(n))
}

/// Endpoints of one backend and their judge.
struct Farm {
    settings: OutlierDetection,
    outliers: Outliers,
    all: Vec<Health>,
}

impl Farm {
    fn of(endpoints: usize, settings: OutlierDetection) -> Self {
        let all = std::iter::repeat_with(Health::default).take(endpoints).collect();
        Self { settings, outliers: Outliers::default(), all }
    }

    fn observe(&self, one: usize, how: Observed, now: u64) -> Option<Ejected> {
        self.outliers.observe(&self.settings, &self.all[one], self.all.iter(), how, at(now))
    }

    /// Five in a row.
    fn fail(&self, one: usize, now: u64) -> Option<Ejected> {
        (0..5).find_map(|_| self.observe(one, Observed::Error, now))
    }

    fn ejected(&self, now: u64) -> usize {
        self.all.iter().filter(|one| one.ejected(at(now))).count()
    }
}

#[test]
fn five_errors_in_a_row_eject_and_a_success_begins_a_new_row() {
    let farm = Farm::of(10, OutlierDetection::default());
    for how in [Observed::Error, Observed::GatewayError, Observed::Error, Observed::LocalFailure] {
        assert_eq!(farm.observe(0, how, 1), None);
    }
    assert_eq!(farm.observe(0, Observed::Success, 1), None);
    for _ in 0..4 {
        assert_eq!(farm.observe(0, Observed::Error, 1), None);
    }
    let ejected = farm.observe(0, Observed::Error, 1);
    assert_eq!(ejected, Some(Ejected { cause: Cause::Errors, time: s(30) }));
    assert!(farm.all[0].ejected(at(30)) && !farm.all[0].ejected(at(31)));
    assert!(farm.outliers.heeded(at(30)) && !farm.outliers.heeded(at(31)));
}

#[test]
fn each_row_has_a_limit_of_its_own_and_zero_is_off() {
    let off = OutlierDetection {
        consecutive_5xx: 0,
        consecutive_gateway_errors: 0,
        consecutive_local_failures: 0,
        ..OutlierDetection::default()
    };
    let gateway = OutlierDetection { consecutive_gateway_errors: 2, ..off };
    let local = OutlierDetection { consecutive_local_failures: 2, ..off };
    let both = OutlierDetection { consecutive_5xx: 2, ..local };
    for (settings, how, expected) in [
        (off, Observed::LocalFailure, None),
        (gateway, Observed::Error, None),
        (gateway, Observed::GatewayError, Some(Cause::GatewayErrors)),
        (gateway, Observed::LocalFailure, Some(Cause::GatewayErrors)),
        (local, Observed::GatewayError, None),
        (local, Observed::LocalFailure, Some(Cause::LocalFailures)),
        (both, Observed::LocalFailure, Some(Cause::LocalFailures)),
        (both, Observed::Error, Some(Cause::Errors)),
        (both, Observed::Success, None),
    ] {
        let farm = Farm::of(3, settings);
        let causes: Vec<_> = (0..2).filter_map(|_| farm.observe(0, how, 1)).map(|one| one.cause).collect();
        assert_eq!(causes, expected.into_iter().collect::<Vec<_>>(), "{settings:?} {how:?}");
    }
}

#[test]
fn an_answer_that_is_no_gateway_error_begins_a_new_row_of_them() {
    let settings =
        OutlierDetection { consecutive_5xx: 0, consecutive_gateway_errors: 2, ..OutlierDetection::default() };
    let farm = Farm::of(3, settings);
    for how in [Observed::GatewayError, Observed::Error, Observed::GatewayError] {
        assert_eq!(farm.observe(0, how, 1), None);
    }
    assert!(farm.observe(0, Observed::GatewayError, 1).is_some());
}

#[test]
fn every_ejection_is_longer_up_to_the_longest() {
    let settings = OutlierDetection { max_ejection_time: s(100), ..OutlierDetection::default() };
    let farm = Farm::of(10, settings);
    let mut now = 1;
    for expected in [30, 60, 90, 100, 100] {
        let ejected = farm.fail(0, now).unwrap();
        assert_eq!(ejected.time, s(expected));
        now += expected;
        assert!(!farm.all[0].ejected(at(now)));
    }
    // Four times the base is over the longest: so it takes four intervals to be new again, not five.
    assert_eq!(farm.fail(0, now + 20).unwrap().time, s(90));
    assert_eq!(farm.fail(0, now + 20 + 90 + 40).unwrap().time, s(30));
}

#[test]
fn what_ends_at_an_ejected_endpoint_does_not_count() {
    let farm = Farm::of(10, OutlierDetection::default());
    assert!(farm.fail(0, 1).is_some());
    for _ in 0..4 {
        assert_eq!(farm.observe(0, Observed::Error, 2), None);
    }
    assert_eq!(farm.observe(0, Observed::Error, 31), None, "it begins a new row");
}

#[test]
fn an_endpoint_comes_back_with_every_row_at_its_beginning() {
    let settings =
        OutlierDetection { consecutive_5xx: 3, consecutive_gateway_errors: 2, ..OutlierDetection::default() };
    let farm = Farm::of(10, settings);
    assert_eq!(farm.observe(0, Observed::GatewayError, 1), None);
    assert!(farm.observe(0, Observed::GatewayError, 1).is_some());
    assert_eq!(farm.observe(0, Observed::Error, 31), None, "not the third");
}

#[test]
fn no_more_than_the_bound_but_one_always_and_never_the_last() {
    for (endpoints, percent, expected) in [
        (10, 10, 1),
        (10, 50, 5),
        (10, 55, 5),
        (10, 100, 9),
        (5, 10, 1),
        (10, 0, 1),
        (2, 100, 1),
        (1, 100, 0),
    ] {
        let settings = OutlierDetection { max_ejection_percent: percent, ..OutlierDetection::default() };
        let farm = Farm::of(endpoints, settings);
        for one in 0..endpoints {
            farm.fail(one, 1);
        }
        assert_eq!(farm.ejected(1), expected, "{percent} % of {endpoints}");
    }
}

#[test]
fn an_endpoint_that_was_spared_may_be_ejected_when_its_row_is_as_long_again() {
    let farm = Farm::of(10, OutlierDetection::default());
    assert!(farm.fail(0, 1).is_some());
    assert_eq!(farm.fail(1, 1), None, "one is enough");
    assert!(farm.fail(1, 40).is_some());
}

#[test]
fn with_too_few_healthy_nobody_is_left_out_until_enough_are_back() {
    let settings =
        OutlierDetection { max_ejection_percent: 100, min_health_percent: 75, ..OutlierDetection::default() };
    let farm = Farm::of(4, settings);
    assert!(farm.fail(0, 1).is_some());
    assert!(farm.outliers.heeded(at(2)), "three of four are healthy");
    assert!(farm.fail(1, 11).is_some());
    assert!(!farm.outliers.heeded(at(12)));
    assert!(farm.outliers.heeded(at(31)), "the first is back");
    assert!(!farm.outliers.heeded(at(41)));
}

#[test]
fn endpoints_that_leave_or_settings_that_go_change_the_count() {
    let settings =
        OutlierDetection { max_ejection_percent: 100, min_health_percent: 50, ..OutlierDetection::default() };
    let farm = Farm::of(4, settings);
    farm.fail(0, 1);
    farm.fail(1, 1);
    assert!(farm.outliers.heeded(at(2)));
    farm.outliers.resettle(None, farm.all.iter(), at(2));
    assert!(!farm.outliers.heeded(at(2)), "nobody looks any more");
    farm.outliers.resettle(Some(&settings), farm.all[..3].iter(), at(2));
    assert!(!farm.outliers.heeded(at(2)), "one of three is healthy");
    farm.outliers.resettle(Some(&settings), farm.all[2..].iter(), at(2));
    assert!(!farm.outliers.heeded(at(2)), "none is ejected");
}

#[test]
fn an_answer_says_what_it_says_of_the_endpoint() {
    for (status, expected) in [
        (200, Observed::Success),
        (429, Observed::Success),
        (500, Observed::Error),
        (501, Observed::Error),
        (502, Observed::GatewayError),
        (504, Observed::GatewayError),
        (505, Observed::Error),
    ] {
        assert_eq!(Observed::status(status), expected, "{status}");
    }
    for (code, expected) in
        [(0, Observed::Success), (5, Observed::Success), (13, Observed::Error), (14, Observed::GatewayError)]
    {
        assert_eq!(Observed::grpc(code), expected, "{code}");
    }
}

#[test]
fn threads_that_judge_at_once_do_not_eject_over_the_bound() {
    let settings = OutlierDetection { max_ejection_percent: 30, ..OutlierDetection::default() };
    let farm = Farm::of(20, settings);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    for one in 0..20 {
                        farm.observe(one, Observed::Error, 1);
                    }
                }
            });
        }
    });
    assert_eq!(farm.ejected(1), 6);
    let twice = |one: &Health| one.multiplier.load(Relaxed) > 1;
    assert!(!farm.all.iter().any(twice), "nobody is ejected by two at once");
}
