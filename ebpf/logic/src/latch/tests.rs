use proptest::prelude::*;
use weft_abi::{Config, SHORT_MESSAGES, SocketState, config_flags, latch, socket_flags};

use super::{App, MESSAGE_COST, Message, Way, decide, may_redirect, take_back};

const BUDGET: u32 = 1 << 20;
const WRITE: u32 = 32 << 10;

fn config() -> Config {
    Config {
        flags: config_flags::ACCELERATE,
        accelerate_budget: BUDGET,
        accelerate_write: WRITE,
        ..Config::zeroed()
    }
}

fn small(size: u32) -> Message {
    Message { size, peer: true, untouched: true, unread: 0, priority: 0, blocks: false }
}

/// What was redirected to a reader that reads nothing.
fn redirected_to_nobody(size: u32) -> u64 {
    let mut state = SocketState::zeroed();
    for _ in 0..=BUDGET / size {
        let unread = u32::try_from(state.redirected).unwrap();
        if !decide(&mut state, &config(), &Message { unread, ..small(size) }).redirects() {
            return state.redirected;
        }
    }
    panic!("messages of {size} bytes go beyond the budget");
}

#[test]
fn a_first_small_message_between_two_sockets_is_redirected() {
    let mut state = SocketState::zeroed();
    assert_eq!(decide(&mut state, &config(), &small(100)), Way::First);
    assert_eq!(decide(&mut state, &config(), &small(100)), Way::Redirect);
    assert_eq!((state.latch, state.redirected), (latch::REDIRECT, 200));
}

#[test]
fn a_first_message_goes_native_for_good_when_anything_speaks_against_it() {
    let off = Config { flags: 0, ..config() };
    let cases = [
        (config(), Message { peer: false, ..small(1) }),
        (config(), Message { untouched: false, ..small(1) }),
        (config(), small(WRITE + 1)),
        (off, small(1)),
        (config(), Message { blocks: true, ..small(1) }),
        (Config { accelerate_budget: 1024, ..config() }, small(1)),
    ];
    for (number, (config_then, message)) in cases.iter().enumerate() {
        let mut state = SocketState::zeroed();
        assert_eq!(decide(&mut state, config_then, message), Way::Never, "case {number}");
        assert_eq!(decide(&mut state, &config(), &small(1)), Way::Native, "case {number}");
        assert_eq!(state.redirected, 0, "case {number}");
    }
}

#[test]
fn a_redirected_direction_leaves_for_each_of_the_same_reasons() {
    let off = Config { flags: 0, ..config() };
    let cases = [
        (config(), Message { peer: false, ..small(1) }),
        (config(), Message { untouched: false, ..small(1) }),
        (config(), small(WRITE + 1)),
        (off, small(1)),
    ];
    for (number, (config_then, message)) in cases.iter().enumerate() {
        let mut state = SocketState::zeroed();
        assert_eq!(decide(&mut state, &config(), &small(7)), Way::First, "case {number}");
        assert_eq!(decide(&mut state, config_then, message), Way::Leave, "case {number}");
        assert_eq!((state.latch, state.redirected), (latch::NATIVE, 7), "case {number}");
    }
}

#[test]
fn a_direction_stays_until_its_reader_has_taken_everything_but_for_what_cannot_wait() {
    let waits = |message: Message, config_then: &Config| {
        let mut state = SocketState::zeroed();
        assert_eq!(decide(&mut state, &config(), &small(7)), Way::First);
        decide(&mut state, config_then, &Message { unread: 1, ..message })
    };
    let off = Config { flags: 0, ..config() };
    assert_eq!(waits(small(WRITE + 1), &config()), Way::Redirect);
    assert_eq!(waits(small(1), &off), Way::Redirect);
    assert_eq!(waits(Message { untouched: false, ..small(1) }, &config()), Way::Leave);
    assert_eq!(waits(Message { peer: false, ..small(1) }, &config()), Way::Leave);
    assert_eq!(waits(small(BUDGET), &config()), Way::Leave);
}

#[test]
fn what_the_proxy_reads_waits_as_well() {
    for flags in [socket_flags::PROXIED, socket_flags::DIALLED_BY_PROXY] {
        let mut state = SocketState { flags, ..SocketState::zeroed() };
        assert_eq!(decide(&mut state, &config(), &small(7)), Way::First);
        assert_eq!(decide(&mut state, &config(), &Message { unread: 7, ..small(WRITE + 1) }), Way::Redirect);
        assert_eq!(decide(&mut state, &config(), &small(WRITE + 1)), Way::Leave);
    }
}

#[test]
fn who_has_found_less_than_half_a_kilobyte_has_nothing_of_tcps_behind_it() {
    // As many messages as fit, of one byte each: more bytes wait when the budget makes it leave.
    let mut state = SocketState::zeroed();
    let mut unread = 0;
    while decide(&mut state, &config(), &Message { unread, ..small(1) }).redirects() {
        unread += 1;
    }
    assert!(unread > 512, "{unread}");
}

#[test]
fn what_the_proxy_sends_is_redirected_only_while_it_says_so_and_apps_need_not_say_anything() {
    let short = Message { priority: SHORT_MESSAGES, ..small(7) };
    for flags in [socket_flags::BY_PROXY, socket_flags::ACCEPTED_BY_PROXY] {
        let mut state = SocketState { flags, ..SocketState::zeroed() };
        assert_eq!(decide(&mut state, &config(), &short), Way::First);
        assert_eq!(decide(&mut state, &config(), &Message { unread: 7, ..small(1) }), Way::Redirect);
        assert_eq!(decide(&mut state, &config(), &small(1)), Way::Leave);
        let mut state = SocketState { flags, ..SocketState::zeroed() };
        assert_eq!(decide(&mut state, &config(), &small(1)), Way::Never);
    }
    for priority in [0, 1, SHORT_MESSAGES, 6] {
        let mut state = SocketState::zeroed();
        assert_eq!(decide(&mut state, &config(), &Message { priority, ..small(7) }), Way::First);
    }
}

#[test]
fn the_largest_write_that_is_redirected_is_the_configured_one() {
    let mut state = SocketState::zeroed();
    assert_eq!(decide(&mut state, &config(), &small(WRITE)), Way::First);
}

#[test]
fn an_idle_reader_is_sent_no_more_than_the_budget() {
    let each = u64::from(WRITE) + MESSAGE_COST;
    let last = (u64::from(BUDGET) - MESSAGE_COST) / each;
    assert_eq!(redirected_to_nobody(WRITE), last * u64::from(WRITE));
}

#[test]
fn tiny_messages_are_charged_what_the_kernel_needs_to_hold_them() {
    assert_eq!(redirected_to_nobody(1), u64::from(BUDGET) / (MESSAGE_COST + 1));
}

#[test]
fn a_reader_who_takes_everything_is_sent_any_amount() {
    let mut state = SocketState::zeroed();
    for _ in 0..10_000 {
        assert!(decide(&mut state, &config(), &small(WRITE)).redirects());
    }
}

#[test]
fn a_decision_that_is_taken_back_leaves_the_count_right_and_is_final() {
    let mut state = SocketState::zeroed();
    let _ = decide(&mut state, &config(), &small(7));
    let _ = decide(&mut state, &config(), &small(100));
    take_back(&mut state, &small(100));
    assert_eq!((state.latch, state.redirected), (latch::NATIVE, 7));
    assert_eq!(decide(&mut state, &config(), &small(1)), Way::Native);
}

#[test]
fn what_apps_read_is_redirected_where_they_ask_for_it_and_what_the_proxy_reads_where_the_agent_is_told() {
    const ASKS: u32 = socket_flags::ACCELERATE;
    let with = |more| Config { flags: config_flags::ACCELERATE | more, ..config() };
    let reads = with(config_flags::ACCELERATE_PROXY);
    let all = with(config_flags::ACCELERATE_PROXY | config_flags::ACCELERATE_APPS);
    let off = Config { flags: all.flags & !config_flags::ACCELERATE, ..config() };
    let (none, both) = ([false, false], [true, true]);
    for (flags, by_default, with_reads, with_all) in [
        (0, none, none, none),
        (ASKS, both, both, both),
        (socket_flags::PROXIED, none, [true, false], both),
        (socket_flags::BY_PROXY, none, [false, true], both),
        (socket_flags::PROXIED | ASKS, both, both, both),
    ] {
        assert_eq!(may_redirect(flags, &config()), by_default, "{flags}");
        assert_eq!(may_redirect(flags, &reads), with_reads, "{flags}");
        assert_eq!(may_redirect(flags, &all), with_all, "{flags}");
        assert_eq!(may_redirect(flags, &off), none, "{flags}");
    }
}

#[test]
fn of_a_leg_of_the_proxy_the_end_that_is_an_apps_is_known_by_the_senders_flags() {
    let apps = ENDS.map(App::of);
    assert_eq!(apps, [App::Both, App::Sender, App::Sender, App::Peer, App::Peer]);
}

/// Who sends and who reads, by the sender's flags.
const ENDS: [u32; 5] = [
    0,
    socket_flags::PROXIED,
    socket_flags::DIALLED_BY_PROXY,
    socket_flags::ACCEPTED_BY_PROXY,
    socket_flags::BY_PROXY,
];

proptest! {
    #[test]
    fn the_latch_only_moves_forward_and_native_is_the_end(
        flags in prop::sample::select(&ENDS[..]),
        steps in prop::collection::vec(
            (
                1_u32..80_000,
                prop::bool::weighted(0.95),
                prop::bool::weighted(0.95),
                prop::bool::weighted(0.95),
                prop::bool::weighted(0.8),
                prop::bool::weighted(0.05),
                0_u64..100,
            ),
            1..200,
        ),
    ) {
        let mut state = SocketState { flags, ..SocketState::zeroed() };
        let mut taken = 0;
        for (size, peer, untouched, on, says, blocks, share) in steps {
            taken += (state.redirected - taken) * share / 99;
            let before = state;
            let unread = u32::try_from(state.redirected - taken).unwrap();
            let config = Config { flags: if on { config_flags::ACCELERATE } else { 0 }, ..config() };
            let priority = if says { SHORT_MESSAGES } else { 0 };
            let way = decide(&mut state, &config, &Message { size, peer, untouched, unread, priority, blocks });
            prop_assert!(state.latch >= before.latch);
            match way {
                Way::First => prop_assert_eq!(before.latch, latch::UNDECIDED),
                Way::Redirect => prop_assert_eq!(before.latch, latch::REDIRECT),
                Way::Never => prop_assert_eq!((before.latch, state.redirected), (latch::UNDECIDED, 0)),
                Way::Leave => prop_assert_eq!(before.latch, latch::REDIRECT),
                Way::Native => prop_assert_eq!(before, state),
            }
            prop_assert_eq!(way.redirects(), state.latch == latch::REDIRECT);
            prop_assert_eq!(state.redirected - before.redirected, if way.redirects() { size.into() } else { 0 });
            prop_assert!(!way.redirects() || (peer && untouched));
            prop_assert!(state.redirected - taken <= u64::from(BUDGET));
            let proxy_sends = flags & (socket_flags::BY_PROXY | socket_flags::ACCEPTED_BY_PROXY) != 0;
            let wanted = on && size <= WRITE && (says || !proxy_sends) && !blocks;
            // Unwanted is what waits for a reader that cannot tell, and nothing else.
            prop_assert!(!way.redirects() || wanted || unread > 0);
            // TCP's bytes come behind unread ones only where nothing else is possible, or nobody can miss them.
            let full = u64::from(unread) + MESSAGE_COST * u64::from(before.messages + 1) + u64::from(size)
                > u64::from(BUDGET);
            prop_assert!(
                way != Way::Leave || unread == 0 || !peer || !untouched || full,
                "{unread} bytes wait"
            );
        }
    }
}
