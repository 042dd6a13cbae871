//! The agent dies: the proxy goes on, and the next agent takes it over.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use weft_telemetry::api::ProxyState;

use crate::world::{AgentProcess, TestPod, World, eventually, is_gone, kill_process, within};

#[test]
fn a_restarted_agent_adopts_the_proxy_and_its_listeners_and_no_connection_is_refused() {
    let (world, web) = (World::new(), TestPod::new());
    let agent = AgentProcess::start(&world, &[&web]);
    let (port, proxy) = (agent.port(&web), agent.active());
    let mut kept = web.call(port);
    assert_eq!(kept.answer(), Some(proxy));
    let caller = web.caller(port);
    caller.wait(20);
    let mut agent = agent;
    for _ in 0..3 {
        agent.kill();
        caller.wait(50);
        agent = AgentProcess::start(&world, &[&web]);
        assert_eq!(agent.active(), proxy);
        assert_eq!(agent.port(&web), port);
        caller.wait(20);
        assert_eq!(world.processes(), BTreeSet::from([proxy]), "there is no second proxy");
    }
    let made = caller.finish();
    assert_eq!((made.refused, made.reset), (vec![], 0));
    assert_eq!(made.by.into_keys().collect::<Vec<_>>(), [proxy]);
    assert_eq!(kept.again(), Some(proxy), "what it carries lives on");
    // What was taken back is the agent's own: it outlives the proxy.
    kill_process(proxy);
    eventually("it is dead", || is_gone(proxy));
    let mut waiting = web.call(port);
    assert!(waiting.answer().is_some_and(|pid| pid != proxy));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_died_in_an_upgrade_leaves_two_generations_and_the_next_one_finishes_it() {
    let (world, web) = (World::new(), TestPod::new());
    let agent = world.agent(&[&web]);
    let (old, port) = (agent.active(1, 1), agent.port(&web));
    let mut kept = web.call(port);
    assert_eq!(kept.answer(), Some(old));
    agent.stop().await;
    // As one that was started, and had taken nothing yet.
    let mut new = Command::new(crate::world::TRIAL);
    let mut new = new.args(["proxy", "--run-dir"]).arg(world.run_dir()).spawn().unwrap();
    eventually("both live", || world.processes().len() == 2);
    let caller = web.caller(port);

    let agent = world.agent(&[&web]);
    eventually("the younger is in force", || agent.active(1, 1) == new.id());
    eventually("the older finishes", || web.call(port).answer() == Some(new.id()));
    assert_eq!(kept.again(), Some(old));
    // And once more, with one of them draining, which has closed its listeners.
    agent.stop().await;
    caller.wait(20);
    let agent = world.agent(&[&web]);
    eventually("both are known", || agent.status().generations.len() == 2);
    assert_eq!((agent.active(1, 1), agent.port(&web)), (new.id(), port));
    drop(kept);
    eventually("the older has ended", || is_gone(old));
    let made = caller.finish();
    assert_eq!((made.refused, made.reset), (vec![], 0));
    assert_eq!(world.processes(), BTreeSet::from([new.id()]));
    agent.stop().await;
    new.kill().unwrap();
    new.wait().unwrap();
}

#[test]
fn a_pod_that_went_away_meanwhile_is_let_go_of_by_the_adopted_proxy() {
    let (world, web, api) = (World::new(), TestPod::new(), TestPod::new());
    let agent = AgentProcess::start(&world, &[&web, &api]);
    let (proxy, port) = (agent.active(), agent.port(&api));
    let tie = format!("wk{}", api.cookie);
    api.tie(&tie);
    agent.kill();
    api.remove();
    assert!(crate::world::ip(&["link", "show", &tie]), "the proxy does not see paths");
    let agent = AgentProcess::start(&world, &[&web, &api]);
    assert_eq!(agent.active(), proxy);
    eventually("the namespace ends", || !crate::world::ip(&["link", "show", &tie]));
    assert_eq!(web.call(agent.port(&web)).answer(), Some(proxy));
    assert_ne!(port, 0);
}

#[test]
fn when_both_are_killed_the_next_agent_makes_new_listeners_and_starts_a_proxy() {
    let (world, web) = (World::new(), TestPod::new());
    let agent = AgentProcess::start(&world, &[&web]);
    let (old_port, old) = (agent.port(&web), agent.active());
    agent.kill();
    kill_process(old);
    eventually("it is dead", || is_gone(old));
    assert!(web.connect(old_port).is_err(), "nobody holds the listener");
    let agent = AgentProcess::start(&world, &[&web]);
    let new = agent.active();
    assert_ne!(new, old);
    assert_eq!(web.call(agent.port(&web)).answer(), Some(new));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_ends_in_order_leaves_the_proxy_serving_too() {
    let (world, web) = (World::new(), TestPod::new());
    let agent = world.agent(&[&web]);
    let (port, proxy) = (agent.port(&web), agent.active(1, 1));
    agent.stop().await;
    assert_eq!(web.call(port).answer(), Some(proxy));
    let agent = world.agent(&[&web]);
    assert_eq!(agent.active(1, 1), proxy);
    assert_eq!(agent.status().restarts, 0);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_death_of_an_adopted_proxy_is_noticed_as_that_of_a_child_is() {
    let (world, web) = (World::new(), TestPod::new());
    let agent = AgentProcess::start(&world, &[&web]);
    let (port, proxy) = (agent.port(&web), agent.active());
    agent.kill();
    let agent = world.agent(&[&web]);
    assert_eq!(agent.active(1, 1), proxy);
    kill_process(proxy);
    let mut waiting = web.call(port);
    assert!(waiting.answer().is_some_and(|pid| pid != proxy));
    assert_eq!(agent.status().restarts, 1);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_speaks_no_version_of_the_agents_is_named_and_left_alone_until_an_upgrade() {
    let (world, web) = (World::new(), TestPod::new());
    world.behave("newer");
    let group = weft_keeper::Keeper::open(world.settings()).unwrap();
    drop(group);
    let mut stranger = Command::new(crate::world::TRIAL);
    stranger.args(["proxy", "--run-dir"]).arg(world.run_dir());
    let mut stranger = stranger.spawn().unwrap();
    // An agent that starts before would start another one.
    eventually("it lives", || world.sees(stranger.id()));
    world.behave("");

    let agent = world.agent(&[&web]);
    eventually("status says why", || agent.status().failure.is_some());
    let failure = agent.status().failure.unwrap().message;
    assert!(failure.contains("versions 5 to 6") && failure.contains(&stranger.id().to_string()), "{failure}");
    assert_eq!(agent.status().state, ProxyState::Failing);
    assert_eq!(world.processes(), BTreeSet::from([stranger.id()]), "no other is started");
    assert!(agent.ports.0.lock().unwrap().is_empty(), "its pods go on through its own listeners");

    let upgraded = agent.keeper.upgrade().await.unwrap();
    within(Duration::from_secs(5), "the stranger ends", || stranger.try_wait().unwrap().is_some());
    assert_eq!(web.call(agent.port(&web)).answer(), Some(upgraded.pid));
    assert_eq!(agent.status().failure, None);
    agent.stop().await;
}
