use super::*;
use crate::records::{Destination, RequestRecord, tests::request};

fn at(window: &Window, seconds: u64) -> Instant {
    window.began + Duration::from_secs(seconds)
}

fn to(service: &str, status: u16, lasted: u64) -> Alike {
    let service = Some(Destination(ObjectName::new("shop", service), 80));
    Alike::of(&RequestRecord { service, status, lasted, ..request() })
}

#[test]
fn requests_of_one_service_and_route_are_told_together() {
    let window = Window::default();
    for status in [200, 200, 200, 503] {
        window.count(&to("api", status, 8_000), at(&window, 1));
    }
    let by_no_route = RequestRecord { rule: None, lasted: 1_000, ..to("api", 200, 0).like().clone() };
    window.count(&Alike::of(&by_no_route), at(&window, 1));
    let told = window.last(Duration::from_secs(10), at(&window, 2));
    let api = &told[0];
    assert_eq!((api.service.as_deref(), api.route.as_deref()), (Some("api"), Some("HTTPRoute shop/canary")));
    assert_eq!((api.requests, api.successes), (4, 3));
    assert_eq!((told[1].route.as_deref(), told[1].requests), (None, 1));
    assert!(api.latency.quantile(0.99).abs_diff(8_000) <= 500);
}

#[test]
fn a_rate_is_over_the_time_that_was_looked_at() {
    let window = Window::default();
    for second in 0..40 {
        (0..10).for_each(|_| window.count(&to("api", 200, 1), at(&window, second)));
    }
    let rate = |span, now| {
        let told = window.last(Duration::from_secs(span), at(&window, now));
        told.first().map(|view| view.rps().round())
    };
    assert_eq!(rate(10, 40), Some(10.0), "the slot that just began takes no time");
    assert_eq!(rate(60, 40), Some(10.0), "the window is younger than that");
    assert_eq!(rate(10, 60), None, "nothing came for 20 s");
}

#[test]
fn what_is_older_than_a_minute_is_gone() {
    let window = Window::default();
    window.count(&to("api", 200, 1), at(&window, 0));
    window.count(&to("api", 200, 1), at(&window, 70));
    assert_eq!(window.last(Window::LONGEST, at(&window, 70))[0].requests, 1);
    let keys = window.keys.lock().unwrap();
    assert_eq!(keys.values().map(|slots| slots.0.len()).sum::<usize>(), 1, "and takes no room");
}

#[test]
fn over_the_bound_requests_are_counted_without_names_until_old_ones_make_room() {
    let window = Window::with_most(2);
    for service in ["a", "b", "c", "d"] {
        window.count(&to(service, 200, 1), at(&window, 0));
    }
    let names = |now| -> Vec<_> {
        let told = window.last(Window::LONGEST, at(&window, now)).into_iter();
        told.map(|view| (view.service, view.requests)).collect()
    };
    assert_eq!(names(1), [(None, 2), (Some("a".to_owned()), 1), (Some("b".to_owned()), 1)]);
    window.count(&to("c", 200, 1), at(&window, 100));
    assert_eq!(names(100), [(Some("c".to_owned()), 1)]);
}
