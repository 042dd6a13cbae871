//! A command of this release and an agent of the one before or after, and the other way round.

use std::{collections::BTreeMap, path::PathBuf, sync::Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
};
use weft_runtime::Tasks;
use weft_telemetry::{api::TrafficView, window::Latency};

use crate::{
    golden::PAGES,
    release::{agrees, lost, newer, recorded},
    shop::{Shop, ask_at},
};

/// What was asked and answered.
const FILE: &str = "api.json";

/// Objects with names for keys.
const FIXED: &[&str] = &["counters", "labels"];

/// What a release's agent answers: lines of JSON, by question.
type Answers = BTreeMap<String, Vec<Value>>;

#[tokio::test]
async fn an_agent_of_the_release_before_is_understood() {
    let shop = Shop::open();
    let recording = recording(&shop).await;
    let desk = Desk::answering(answers(&recording));
    for line in commands(&recording) {
        let (old, new) = (ask_at(&[desk.run_dir()], &line).await, shop.ask(&line).await);
        // It may have less to show.
        assert!(!old.out.is_empty() && old.err.is_empty(), "weft {line}: {old:?}");
        assert_eq!(old.exit.unwrap(), new.exit.unwrap(), "weft {line}");
    }
}

#[tokio::test]
async fn an_agent_that_says_more_is_understood_as_todays_is() {
    let shop = Shop::open();
    let recording = recording(&shop).await;
    let mut answers = answers(&recording);
    for (question, lines) in &mut answers {
        *lines = told(&shop, question).await.iter().map(|line| newer(line, FIXED)).collect();
    }
    let desk = Desk::answering(answers);
    for line in commands(&recording) {
        let (more, today) = (ask_at(&[desk.run_dir()], &line).await, shop.ask(&line).await);
        assert_eq!((&more.out, &more.err), (&today.out, &today.err), "weft {line}");
        assert_eq!(more.exit.unwrap(), today.exit.unwrap(), "weft {line}");
    }
}

#[tokio::test]
async fn what_a_command_of_the_release_before_asks_is_answered_with_all_that_it_reads() {
    let shop = Shop::open();
    for (question, lines) in answers(&recording(&shop).await) {
        let today = Value::Array(told(&shop, &question).await);
        let lost = lost(&Value::Array(lines), &today);
        assert!(lost.is_empty(), "{question}: that release reads what is not said any more: {lost:?}");
    }
}

#[tokio::test]
async fn a_question_that_the_other_release_does_not_know_is_answered_with_the_remedy() {
    let desk = Desk::answering(Answers::new());
    for line in ["status", "get services", "observe", "stat", "describe pod shop/web-1", "log"] {
        let answer = ask_at(&[desk.run_dir()], line).await;
        let error = answer.exit.unwrap_err().to_string();
        assert!(error.contains("is the agent of another version than this command?"), "{line}: {error}");
    }
    let lines = || Answers::from([("GET /v1/services".to_owned(), vec![json!([{"name": 7}])])]);
    let answer = ask_at(&[Desk::answering(lines()).run_dir()], "get services").await;
    let error = answer.exit.unwrap_err().to_string();
    assert!(error.contains("is it of another version than this command?"), "{error}");
}

#[test]
fn what_changes_all_the_time_is_read_the_same() {
    let mut latency = Latency::default();
    latency.add(12_400);
    latency.add(13_500);
    let traffic = TrafficView {
        namespace: Some("shop".to_owned()),
        service: Some("api".to_owned()),
        route: Some("HTTPRoute shop/canary".to_owned()),
        requests: 2,
        successes: 1,
        seconds: 60.0,
        latency,
    };
    agrees("traffic.json", &vec![traffic], &[]);
}

/// What that release's commands have asked, and the answers.
async fn recording(shop: &Shop) -> Value {
    let mut today = json!({});
    if std::env::var_os("BLESS").is_some() {
        let all: Vec<_> = PAGES.iter().map(|(_, line, _)| *line).collect();
        let desk = Desk::passing_on(shop);
        for line in &all {
            ask_at(&[desk.run_dir()], line).await.exit.unwrap();
        }
        today = json!({"commands": all, "answers": *desk.answers.lock().unwrap()});
    }
    recorded(FILE, &today)
}

fn commands(recording: &Value) -> Vec<String> {
    serde_json::from_value(recording["commands"].clone()).unwrap()
}

fn answers(recording: &Value) -> Answers {
    serde_json::from_value(recording["answers"].clone()).unwrap()
}

/// What the shop's agent answers.
async fn told(shop: &Shop, question: &str) -> Vec<Value> {
    let text = asked(&PathBuf::from(shop.run_dir()).join("agent.sock"), question).await;
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| line.into())).collect()
}

async fn asked(socket: &std::path::Path, question: &str) -> String {
    let (method, path) = question.split_once(' ').unwrap();
    let stream = UnixStream::connect(socket).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    let request = Request::builder().method(method).uri(path).header("host", "agent");
    let answer = async {
        let response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
        assert!(response.status().is_success(), "{question}: {}", response.status());
        response.into_body().collect().await.unwrap().to_bytes()
    };
    let bytes = tokio::select! {
        bytes = answer => bytes,
        _ = connection => panic!("{question}: it broke off"),
    };
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// An agent that answers from a list.
struct Desk {
    folder: tempfile::TempDir,
    answers: std::sync::Arc<Mutex<Answers>>,
    _tasks: Tasks,
}

impl Desk {
    fn answering(answers: Answers) -> Self {
        Self::open(answers, None)
    }

    /// It asks the shop what it does not know yet.
    fn passing_on(shop: &Shop) -> Self {
        Self::open(Answers::new(), Some(PathBuf::from(shop.run_dir()).join("agent.sock")))
    }

    fn open(answers: Answers, shop: Option<PathBuf>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("agent.sock")).unwrap();
        let answers = std::sync::Arc::new(Mutex::new(answers));
        let (tasks, known) = (Tasks::new(), std::sync::Arc::clone(&answers));
        tasks.spawn("desk", async move {
            loop {
                let (mut stream, _) = listener.accept().await?;
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await?);
                }
                let head = String::from_utf8(head).unwrap();
                let question = head.split(' ').take(2).collect::<Vec<_>>().join(" ");
                if let Some(socket) = &shop {
                    let text = asked(socket, &question).await;
                    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
                    known.lock().unwrap().insert(question.clone(), lines.collect());
                }
                let lines = known.lock().unwrap().get(&question).cloned();
                let status = if lines.is_some() { "200 OK" } else { "404 Not Found" };
                let body = lines.iter().flatten().map(|line| line.to_string() + "\n").collect::<String>();
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                );
                stream.write_all(answer.as_bytes()).await?;
            }
            #[expect(unreachable_code, reason = "says what the task may fail of")]
            Ok::<_, std::io::Error>(())
        });
        Self { folder, answers, _tasks: tasks }
    }

    fn run_dir(&self) -> String {
        self.folder.path().display().to_string()
    }
}
