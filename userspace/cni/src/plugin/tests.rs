use std::{
    cell::Cell,
    path::{Path, PathBuf},
    time::Instant,
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixListener,
};
use weft_runtime::Tasks;

use super::*;

/// An agent that gives one answer, or none; what it is asked is seen.
struct Desk {
    folder: TempDir,
    asked: tokio::sync::mpsc::UnboundedReceiver<(String, Value)>,
    _tasks: Tasks,
}

impl Desk {
    /// `None`: it takes calls, and is never heard of again.
    fn answering(answer: Option<(&'static str, &'static str)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("agent.sock")).unwrap();
        let (sender, asked) = tokio::sync::mpsc::unbounded_channel();
        let tasks = Tasks::new();
        tasks.spawn("agent", async move {
            loop {
                let (mut stream, _) = listener.accept().await?;
                let mut text = vec![0; 64 * 1024];
                let mut length = 0;
                let (head, body) = loop {
                    length += stream.read(&mut text[length..]).await?;
                    let so_far = String::from_utf8_lossy(&text[..length]).into_owned();
                    let Some((head, body)) = so_far.split_once("\r\n\r\n") else { continue };
                    if let Ok(body) = serde_json::from_str(body) {
                        break (head.to_owned(), body);
                    }
                };
                let _ = sender.send((head.split(' ').nth(1).unwrap_or_default().to_owned(), body));
                match answer {
                    Some((status, body)) => {
                        let length = body.len();
                        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}");
                        stream.write_all(answer.as_bytes()).await?;
                    }
                    None => std::mem::forget(stream),
                }
            }
            #[expect(unreachable_code, reason = "says what the task may fail of")]
            Ok::<_, std::io::Error>(())
        });
        Self { folder, asked, _tasks: tasks }
    }

    fn away() -> Self {
        let (_, asked) = tokio::sync::mpsc::unbounded_channel();
        Self { folder: tempfile::tempdir().unwrap(), asked, _tasks: Tasks::new() }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("agent.sock")
    }
}

/// What others than the agent say.
#[derive(Default)]
struct Others {
    server: Option<bool>,
    kept: Option<bool>,
    /// The API server does not answer at all.
    silent: bool,
    asked: Cell<u32>,
}

impl Membership for Others {
    async fn ask(&self, _: &Pod) -> Result<bool, String> {
        self.asked.set(self.asked.get() + 1);
        if self.silent {
            std::future::pending::<()>().await;
        }
        self.server.ok_or_else(|| "connection refused".to_owned())
    }

    fn kept(&self, _: &Pod) -> Option<bool> {
        self.kept
    }
}

const RESULT: &str = r#"{"cniVersion":"1.0.0",  "ips":[{"address":"10.1.0.7/24"}],"dns":{}, "odd": [1,2 ]}"#;

fn call(command: &str, socket: &Path, namespace: &str) -> Call {
    let arguments = format!("K8S_POD_NAMESPACE={namespace};K8S_POD_NAME=web;K8S_POD_UID=u1");
    let variable = |name: &str| {
        Some(match name {
            "CNI_COMMAND" => command.to_owned(),
            "CNI_CONTAINERID" => "ab12".to_owned(),
            "CNI_NETNS" => "/proc/self/ns/net".to_owned(),
            "CNI_IFNAME" => "eth0".to_owned(),
            "CNI_ARGS" => arguments.clone(),
            _ => return None,
        })
    };
    let config = format!(
        r#"{{"cniVersion": "1.0.0", "name": "n", "type": "weft-cni", "agent": "{}", "neverWait": ["kube-system"],
            "cni.dev/valid-attachments": [{{"containerID": "cd34", "ifname": "eth0"}}], "prevResult": {RESULT}}}"#,
        socket.display()
    );
    Call::read(variable, config.as_bytes()).unwrap()
}

async fn add(desk: &Desk, namespace: &str, others: &Others) -> Result<String, Error> {
    answer(&call("ADD", &desk.socket(), namespace), others).await
}

#[tokio::test]
async fn a_pod_that_the_agent_has_done_its_part_for_starts_with_the_result_that_came() {
    for said in ["\"Enrolled\"", "\"NotEnrolled\""] {
        let mut desk = Desk::answering(Some(("200 OK", said)));
        let others = Others::default();
        assert_eq!(add(&desk, "shop", &others).await.unwrap(), RESULT, "byte for byte");
        assert_eq!(others.asked.get(), 0);
        let (path, body) = desk.asked.recv().await.unwrap();
        assert_eq!(path, "/v1/runtime/attach");
        let of = |key: &str| body[key].as_str().unwrap_or_default();
        assert_eq!((of("namespace"), of("pod"), of("uid"), of("sandbox")), ("shop", "web", "u1", "ab12"));
        assert_eq!(body["ips"][0], "10.1.0.7");
        assert_eq!(body["inode"], fs::metadata("/proc/self/ns/net").unwrap().ino());
    }
}

#[tokio::test]
async fn without_an_agent_a_pod_waits_if_it_must_be_in_the_mesh_or_nobody_knows() {
    let desk = Desk::away();
    let cases = [
        // What the API server says, what is kept, whether the pod starts.
        (Some(false), None, true),
        (Some(false), Some(true), true),
        (Some(true), None, false),
        (Some(true), Some(false), false),
        (None, Some(false), true),
        (None, Some(true), false),
        (None, None, false),
    ];
    for (server, kept, starts) in cases {
        let others = Others { server, kept, ..Others::default() };
        let done = add(&desk, "shop", &others).await;
        assert_eq!(done.is_ok(), starts, "{server:?}, {kept:?}: {done:?}");
        if let Err(error) = done {
            assert_eq!(error.code, Code::TryAgainLater);
            assert!(error.message.starts_with("pod shop/web waits for the mesh"), "{error}");
            assert!(
                error.details.contains("does not answer at") && error.details.contains("kubectl"),
                "{error}"
            );
            assert_eq!(error.details.contains("not known"), server.is_none() && kept.is_none(), "{error}");
        }
    }
}

#[tokio::test]
async fn an_agent_that_fails_or_has_not_heard_of_the_pod_is_no_reason_to_keep_others_from_starting() {
    let failure = r#"{"message": "weft_policy is full", "remedy": "start the agent with --map-size"}"#;
    for answer in [("200 OK", "\"Unknown\""), ("500 Internal Server Error", failure), ("404 Not Found", "")] {
        let desk = Desk::answering(Some(answer));
        let others = |enrolled| Others { server: Some(enrolled), ..Others::default() };
        assert_eq!(add(&desk, "shop", &others(false)).await.unwrap(), RESULT);
        let error = add(&desk, "shop", &others(true)).await.unwrap_err();
        assert_eq!(error.code, Code::TryAgainLater);
        assert!(answer.0 != "500 Internal Server Error" || error.details.contains("--map-size"), "{error}");
    }
}

#[tokio::test]
async fn the_clusters_own_pods_never_wait() {
    for (desk, longest) in [(Desk::away(), 1), (Desk::answering(None), 3)] {
        let others = Others { server: Some(true), ..Others::default() };
        let began = Instant::now();
        assert_eq!(add(&desk, "kube-system", &others).await.unwrap(), RESULT);
        assert!(began.elapsed() < Duration::from_secs(longest), "{:?}", began.elapsed());
        assert_eq!(others.asked.get(), 0);
    }
}

#[tokio::test]
async fn an_add_ends_within_ten_seconds_whoever_is_silent() {
    let desk = Desk::answering(None);
    let others = Others { silent: true, ..Others::default() };
    let began = Instant::now();
    let error = add(&desk, "shop", &others).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(error.code, Code::TryAgainLater);
    assert!(error.details.contains("has not answered for 6 s"), "{error}");
}

#[tokio::test]
async fn a_sandbox_that_goes_is_let_go_of_whether_or_not_there_is_an_agent() {
    let mut desk = Desk::answering(Some(("200 OK", "null")));
    for (command, path, sandbox) in
        [("DEL", "/v1/runtime/detach", "ab12"), ("GC", "/v1/runtime/keep", "cd34")]
    {
        let done = answer(&call(command, &desk.socket(), "shop"), &Others::default()).await;
        assert_eq!(done.unwrap(), "");
        let (asked, body) = desk.asked.recv().await.unwrap();
        assert_eq!((&*asked, body["sandboxes"][0].as_str()), (path, Some(sandbox)));
    }
    let desk = Desk::away();
    for command in ["DEL", "GC", "STATUS", "CHECK"] {
        let done = answer(&call(command, &desk.socket(), "shop"), &Others::default()).await;
        assert_eq!(done.unwrap(), "", "{command}");
    }
}

#[tokio::test]
async fn a_check_fails_for_a_pod_that_is_not_protected_as_it_should_be() {
    let failure = r#"{"message": "pod shop/web is not enforced", "remedy": ""}"#;
    let desk = Desk::answering(Some(("500 Internal Server Error", failure)));
    let error = answer(&call("CHECK", &desk.socket(), "shop"), &Others::default()).await.unwrap_err();
    assert_eq!(error.code, Code::NotEnrolled);
    let desk = Desk::answering(Some(("200 OK", "\"Enrolled\"")));
    assert!(answer(&call("CHECK", &desk.socket(), "shop"), &Others::default()).await.is_ok());
}

#[tokio::test]
async fn it_says_which_versions_it_speaks() {
    let variable = |name: &str| (name == "CNI_COMMAND").then(|| "VERSION".to_owned());
    for (input, version) in
        [("{\"cniVersion\": \"1.0.0\"}", "1.0.0"), ("", "1.1.0"), ("{\"cniVersion\": \"9.9\"}", "1.1.0")]
    {
        let call = Call::read(variable, input.as_bytes()).unwrap();
        let said: Value = serde_json::from_str(&answer(&call, &Others::default()).await.unwrap()).unwrap();
        assert_eq!(said["cniVersion"], version);
        let versions = said["supportedVersions"].as_array().unwrap();
        assert!(versions.contains(&"1.0.0".into()) && versions.contains(&"1.1.0".into()));
    }
}
