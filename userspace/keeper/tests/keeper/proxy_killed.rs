//! The proxy dies: connections wait for the next one.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use weft_telemetry::api::ProxyState;

use crate::world::{TestPod, World, configuration, eventually, is_gone, kill_process, signal};

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_made_while_no_proxy_lives_wait_for_the_next_one() {
    let (world, web) = (World::new(), TestPod::new());
    let agent = world.agent(&[&web]);
    let port = agent.port(&web);
    let first = agent.active(1, 1);
    for _ in 0..3 {
        let killed = agent.active(1, 1);
        kill_process(killed);
        eventually("it is dead", || is_gone(killed));
        let mut waiting: Vec<_> = (0..20).map(|_| web.call(port)).collect();
        for call in &mut waiting {
            let by = call.answer().expect("it is not reset");
            assert_ne!(by, killed);
        }
    }
    assert_eq!(agent.port(&web), port);
    assert_ne!(agent.active(1, 1), first);
    assert_eq!(agent.status().restarts, 3);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_proxy_again_and_again_refuses_no_connection() {
    let (world, web, api) = (World::new(), TestPod::new(), TestPod::new());
    let agent = world.agent(&[&web, &api]);
    let callers = [web.caller(agent.port(&web)), api.caller(agent.port(&api))];
    for _ in 0..4 {
        let pid = agent.active(1, 2);
        for caller in &callers {
            caller.wait(20);
        }
        kill_process(pid);
        eventually("another is in force", || agent.active(1, 2) != pid);
    }
    for caller in callers {
        caller.wait(20);
        let made = caller.finish();
        assert_eq!(made.refused, [""; 0]);
        assert!(made.by.len() >= 4, "each generation has answered: {made:?}");
    }
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_proxy_tells_is_taken_under_its_own_generation_and_its_end_is_told_once() {
    let (world, web) = (World::new(), TestPod::new());
    let agent = world.agent(&[&web]);
    let first = agent.active(1, 1);
    let generation = agent.status().generations[0].generation;
    let told = || -> Vec<(u64, u64)> {
        let batches = agent.records.batches.lock().unwrap();
        batches.iter().map(|batch| (batch.generation, batch.lost)).collect()
    };
    // What is no batch of records is refused, and nothing ends by it.
    eventually("it tells", || told() == [(generation, first.into())]);
    assert_eq!(*agent.records.ended.lock().unwrap(), [0; 0]);
    kill_process(first);
    eventually("another tells", || told().len() == 2);
    eventually("its end is told", || *agent.records.ended.lock().unwrap() == [generation]);
    let second = agent.active(1, 1);
    assert_eq!(told()[1].1, u64::from(second));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_dies_at_once_is_tried_less_and_less_often_and_status_says_why() {
    let (world, web) = (World::new(), TestPod::new());
    world.behave("die");
    let start = Instant::now();
    let agent = world.agent(&[&web]);
    eventually("it is tried again", || agent.status().restarts >= 4);
    // Waits of 100, 200, 400 ms, each shortened by half at most, are between four tries.
    assert!(start.elapsed() >= Duration::from_millis(350), "{:?}", start.elapsed());
    let status = agent.status();
    assert_eq!(status.state, ProxyState::Failing);
    assert!(status.without_since.is_some());
    let failure = status.failure.unwrap().message;
    assert!(
        failure.contains("exit status: 1") && failure.contains("it dies at once, as it was told"),
        "{failure}"
    );
    let waiting = web.call(agent.port(&web));
    world.behave("");
    let pid = agent.active(1, 1);
    let mut waiting = waiting;
    assert_eq!(waiting.answer(), Some(pid));
    let status = agent.status();
    assert_eq!((status.failure, status.without_since), (None, None));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_hangs_is_replaced_and_finishes_if_it_goes_on_after_all() {
    let (world, web) = (World::new(), TestPod::new());
    let agent = world.agent(&[&web]);
    let (hung, port) = (agent.active(1, 1), agent.port(&web));
    let mut kept = web.call(port);
    assert_eq!(kept.answer(), Some(hung));
    signal(hung, Signal::SIGSTOP);
    eventually("status says so", || agent.status().failure.is_some());
    let failure = agent.status().failure.unwrap().message;
    assert!(failure.contains(&format!("pid {hung} does not answer")), "{failure}");
    eventually("another is in force", || agent.active(1, 1) != hung);
    let new = agent.active(1, 1);
    assert_eq!(world.processes(), BTreeSet::from([hung, new]));
    signal(hung, Signal::SIGCONT);
    eventually("it accepts no more", || (0..20).all(|_| web.call(port).answer() == Some(new)));
    assert_eq!(kept.again(), Some(hung), "what it carried is not cut");
    drop(kept);
    eventually("it ends", || is_gone(hung));
    assert_eq!((agent.active(1, 1), agent.status().restarts), (new, 0));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_is_refused_leaves_the_last_good_one_in_force_also_for_the_next_proxy() {
    let (world, web) = (World::new(), TestPod::new());
    let agent = world.agent(&[&web]);
    let first = agent.active(1, 1);
    agent.configured.send_replace(Some(configuration(2, "bad")));
    let refused = || agent.status().generations.last().and_then(|last| last.detail.clone());
    eventually("it is refused", || refused().is_some());
    assert_eq!(refused().unwrap(), "snapshot 2 was refused: it is no good");
    let status = agent.status();
    assert_eq!((status.state, status.snapshot_version), (ProxyState::Active, Some(2)));
    kill_process(first);
    eventually("another is in force", || agent.active(1, 1) != first);
    assert_eq!(web.call(agent.port(&web)).answer(), Some(agent.active(1, 1)));
    agent.configured.send_replace(Some(configuration(3, "good")));
    agent.active(3, 1);
    assert_eq!(refused(), None);
    agent.stop().await;
}
