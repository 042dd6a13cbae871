use std::{collections::VecDeque, sync::Mutex};

use futures_util::{
    FutureExt as _,
    future::BoxFuture,
    stream::{self},
};
use serde_json::json;

use super::*;
use crate::cluster::server::{Events, Page};

/// Answers by a script; when that is at its end, a watch tells nothing any more.
#[derive(Default)]
struct Script {
    pages: Mutex<VecDeque<Result<Page, Trouble>>>,
    watches: Mutex<VecDeque<Watched>>,
    /// From where watches were asked for.
    asked: Mutex<Vec<Start>>,
}

/// What becomes of a watch.
enum Watched {
    /// It tells this, and ends.
    Tells(Vec<Event>),
    /// It tells this, and breaks.
    Breaks(Vec<Event>, Trouble),
    /// It does not begin.
    Refused(Trouble),
}

impl Server for Script {
    fn list(&self, _after: Option<String>) -> BoxFuture<'_, Result<Page, Trouble>> {
        let page = self.pages.lock().unwrap().pop_front().expect("a list that the script does not have");
        async { page }.boxed()
    }

    fn watch(&self, start: Start) -> BoxFuture<'_, Result<Events, Trouble>> {
        self.asked.lock().unwrap().push(start);
        let next = self.watches.lock().unwrap().pop_front();
        let events = match next {
            Some(Watched::Tells(events)) => Ok(stream::iter(events.into_iter().map(Ok)).boxed()),
            Some(Watched::Breaks(events, trouble)) => {
                Ok(stream::iter(events.into_iter().map(Ok).chain([Err(trouble)])).boxed())
            }
            Some(Watched::Refused(trouble)) => Err(trouble),
            None => Ok(stream::pending().boxed()),
        };
        async { events }.boxed()
    }
}

fn object(name: &str, version: u32) -> Value {
    json!({"metadata": {"name": name, "resourceVersion": version.to_string()}})
}

fn is(name: &str, version: u32) -> Event {
    Event::Is(object(name, version))
}

fn mark(version: u32, complete: bool) -> Event {
    Event::Mark { version: version.to_string(), complete }
}

fn after(version: u32) -> Start {
    Start::After(version.to_string())
}

/// What is told by a server of this script, until it is at its end and nothing is told for an hour.
async fn told(script: &Script) -> Vec<Told> {
    let (to, mut from) = mpsc::channel(64);
    let listener = Listener { id: 0, to };
    let mut told = Vec::new();
    let listen = async {
        while let Ok(Some((_, one))) = timeout(Duration::from_mins(2), from.recv()).await {
            told.push(one);
        }
    };
    tokio::select! {
        () = follow(script, &listener) => unreachable!("somebody listens"),
        () = listen => {}
    }
    told
}

fn names(told: &[Told]) -> Vec<String> {
    let name = |object: &Value| object["metadata"]["name"].as_str().unwrap().to_owned();
    let word = |told: &Told| match told {
        Told::Listing => "listing".to_owned(),
        Told::Listed => "listed".to_owned(),
        Told::Is(object) => format!("+{}", name(object)),
        Told::Was(object) => format!("-{}", name(object)),
        Told::Answered => "answered".to_owned(),
        Told::Failed(_) => "failed".to_owned(),
    };
    told.iter().map(word).collect()
}

#[tokio::test(start_paused = true)]
async fn a_list_by_watch_goes_on_from_its_mark() {
    let script = Script::default();
    // Versions of objects in a list are in no order.
    let events = vec![is("a", 9), is("b", 3), mark(12, true), is("c", 13), Event::Was(object("a", 14))];
    script.watches.lock().unwrap().push_back(Watched::Tells(events));
    let told = told(&script).await;
    assert_eq!(names(&told), ["listing", "+a", "+b", "listed", "+c", "-a", "answered"]);
    assert_eq!(*script.asked.lock().unwrap(), [Start::Everything, after(14)]);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_breaks_off_is_told_from_its_beginning() {
    let script = Script::default();
    script.watches.lock().unwrap().extend([
        Watched::Tells(vec![is("a", 1), is("b", 2)]),
        Watched::Breaks(vec![is("b", 2)], Trouble::Away("reset".into())),
        Watched::Tells(vec![is("b", 2), mark(5, true)]),
    ]);
    let told = told(&script).await;
    let expected = ["listing", "+a", "+b", "listing", "+b", "failed", "listing", "+b", "listed", "answered"];
    assert_eq!(names(&told), expected);
    assert_eq!(script.asked.lock().unwrap()[2..], [Start::Everything, after(5)]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_streams_no_lists_is_asked_in_parts() {
    let script = Script::default();
    script.watches.lock().unwrap().push_back(Watched::Refused(Trouble::NoStreamedLists("no".into())));
    script.pages.lock().unwrap().extend([
        Ok(Page { objects: vec![object("a", 1)], version: String::new(), after: Some("x".into()) }),
        Ok(Page { objects: vec![object("b", 2)], version: "7".into(), after: None }),
    ]);
    let told = told(&script).await;
    assert_eq!(names(&told), ["listing", "+a", "+b", "listed", "answered"], "the refusal is no failure");
    assert_eq!(*script.asked.lock().unwrap(), [Start::Everything, after(7)]);
}

#[tokio::test(start_paused = true)]
async fn a_version_that_the_server_has_forgotten_is_a_list_anew() {
    let script = Script::default();
    script.watches.lock().unwrap().extend([
        Watched::Tells(vec![is("a", 1), mark(5, true)]),
        Watched::Refused(Trouble::Expired),
        Watched::Tells(vec![is("b", 9), mark(9, true)]),
    ]);
    let told = told(&script).await;
    assert_eq!(names(&told), ["listing", "+a", "listed", "listing", "+b", "listed", "answered"]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_is_asked_less_and_less_often() {
    let script = Script::default();
    let away = || Watched::Refused(Trouble::Away("connection refused".into()));
    script.watches.lock().unwrap().extend((0..8).map(|_| away()));
    let began = Instant::now();
    let told = told(&script).await;
    assert_eq!(names(&told)[..9], [&["failed"; 8][..], &["listing"]].concat());
    // 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30 s, each by half at the least.
    assert!(began.elapsed() > Duration::from_secs(55), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_says_nothing_is_asked_for_anew() {
    let script = Script::default();
    script.watches.lock().unwrap().push_back(Watched::Tells(vec![is("a", 1), mark(5, true)]));
    let (to, mut from) = mpsc::channel(64);
    let listener = Listener { id: 0, to };
    tokio::select! {
        () = follow(&script, &listener) => unreachable!("somebody listens"),
        () = async {
            let mut answered = 0;
            while answered < 3 {
                answered += usize::from(from.recv().await.unwrap().1 == Told::Answered);
            }
        } => {}
    }
    assert_eq!(script.asked.lock().unwrap()[1..], [after(5), after(5), after(5)]);
}
