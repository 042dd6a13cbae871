//! The next generation takes over.

use std::collections::BTreeSet;
use std::time::Duration;

use weft_telemetry::api::{GenerationState, ProxyState};

use crate::world::{TestPod, World, eventually, is_gone, within};

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_under_load_fails_no_connection_and_the_old_generation_finishes_its_own() {
    let (world, web, api) = (World::new(), TestPod::new(), TestPod::new());
    let agent = world.agent(&[&web, &api]);
    let mut old = agent.active(1, 2);
    let callers = [web.caller(agent.port(&web)), api.caller(agent.port(&api))];
    for _ in 0..3 {
        for caller in &callers {
            caller.wait(20);
        }
        let mut kept = web.call(agent.port(&web));
        assert_eq!(kept.answer(), Some(old));

        let upgraded = agent.keeper.upgrade().await.unwrap();
        assert_ne!(upgraded.pid, old);
        assert_eq!((upgraded.draining, upgraded.drain_seconds), (vec![old], 300));
        let states: Vec<_> = agent.status().generations.iter().map(|one| (one.pid, one.state)).collect();
        assert_eq!(states, [(old, GenerationState::Draining), (upgraded.pid, GenerationState::Active)]);
        eventually("the old one accepts no more", || {
            (0..20).all(|_| web.call(agent.port(&web)).answer() == Some(upgraded.pid))
        });
        assert_eq!(kept.again(), Some(old), "what it carries lives on");
        assert!(!is_gone(old));
        drop(kept);
        within(Duration::from_secs(5), "the old one ends by itself", || is_gone(old));
        eventually("one is left", || agent.status().generations.len() == 1);
        old = upgraded.pid;
    }
    for caller in callers {
        caller.wait(20);
        let made = caller.finish();
        assert_eq!((made.refused, made.reset), (vec![], 0));
        assert_eq!(made.by.len(), 4, "{:?}", made.by);
    }
    assert_eq!(agent.status().restarts, 0, "a replaced proxy is no failed one");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_to_a_proxy_that_fails_leaves_the_old_one_in_force_and_says_why() {
    let (world, web) = (World::new(), TestPod::new());
    let agent = world.agent(&[&web]);
    let (pid, caller) = (agent.active(1, 1), web.caller(agent.port(&web)));
    for (behaviour, why) in [
        ("die", "it dies at once, as it was told"),
        ("refuse", "snapshot 1 was refused: it is no good"),
        ("newer", "versions 5 to 6"),
    ] {
        world.behave(behaviour);
        let failure = agent.keeper.upgrade().await.unwrap_err();
        assert!(failure.message.contains(why), "{behaviour}: {failure}");
        assert!(failure.message.contains("the one before stays in force"), "{failure}");
        assert!(failure.remedy.contains("proxy.log"), "{failure}");
        eventually("the new one is gone", || world.processes() == BTreeSet::from([pid]));
        eventually("the old one is in force", || agent.active(1, 1) == pid);
    }
    caller.wait(20);
    let made = caller.finish();
    assert_eq!((made.refused, made.reset), (vec![], 0));
    assert_eq!(made.by.into_keys().collect::<Vec<_>>(), [pid]);
    let status = agent.status();
    assert_eq!((status.state, status.restarts), (ProxyState::Active, 0));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_upgrades_at_once_one_is_refused() {
    let (world, web) = (World::new(), TestPod::new());
    let agent = world.agent(&[&web]);
    agent.active(1, 1);
    let two = tokio::join!(agent.keeper.upgrade(), agent.keeper.upgrade());
    let refused = [two.0, two.1].into_iter().filter_map(Result::err).map(|failure| failure.message);
    assert_eq!(refused.collect::<Vec<_>>(), ["an upgrade is under way"]);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_an_agent_of_another_build_has_left_is_replaced_once() {
    let (world, web) = (World::new(), TestPod::new());
    let agent = world.agent(&[&web]);
    let (old, caller) = (agent.active(1, 1), web.caller(agent.port(&web)));
    caller.wait(20);
    agent.stop().await;

    let same = world.agent(&[&web]);
    assert_eq!(same.active(1, 1), old, "of the same build it is kept");
    same.stop().await;

    let next = world.next_agent(&[&web]);
    eventually("another one is in force", || {
        next.status().generations.iter().any(|one| one.state == GenerationState::Active && one.pid != old)
    });
    within(Duration::from_secs(5), "the old one ends", || is_gone(old));
    let new = next.active(1, 1);
    caller.wait(20);
    let made = caller.finish();
    assert_eq!((made.refused, made.reset), (vec![], 0));
    // That one says that it is of the old build, too: it was started by this agent.
    let caller = web.caller(next.port(&web));
    caller.wait(50);
    drop(caller.finish());
    assert_eq!(next.active(1, 1), new, "it is tried once");
    next.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_cannot_hold_the_maps_of_two_layouts_serves_until_another_one_holds_both() {
    let (world, web) = (World::new(), TestPod::new());
    world.behave("one-layout");
    let agent = world.agent(&[&web]);
    let (old, caller) = (agent.active(1, 1), web.caller(agent.port(&web)));
    caller.wait(20);
    agent.stop().await;
    // Nobody can take its place so far.
    world.behave("die");
    let next = world.agent_of_another_layout(&[&web]);
    eventually("it is asked in vain", || {
        let status = next.status();
        status
            .generations
            .iter()
            .any(|one| one.detail.as_deref().is_some_and(|why| why.contains("older layout")))
    });
    caller.wait(20);
    next.stop().await;

    world.behave("");
    let next = world.agent_of_another_layout(&[&web]);
    within(Duration::from_secs(10), "the old one ends", || is_gone(old));
    let new = next.active(1, 1);
    assert_ne!(new, old);
    caller.wait(20);
    let made = caller.finish();
    assert_eq!((made.refused, made.reset), (vec![], 0));
    assert_eq!(made.by.into_keys().collect::<Vec<_>>(), [old, new]);
    // The last of the older layout is let go of.
    next.older.send_replace([].into());
    within(Duration::from_secs(5), "it goes on", || next.active(1, 1) == new);
    next.stop().await;
}
