//! The questions that a watch asks an API server.

use std::time::Duration;

use futures_util::{AsyncBufReadExt as _, StreamExt as _, future::BoxFuture, stream::BoxStream};
use kube::{
    Client,
    api::{GetParams, ListParams, WatchParams},
    core::{Request, Status, WatchEvent},
};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;

use super::{resource::Resource, trouble::Trouble};

/// All objects of one kind, at an API server or in a test.
pub(super) trait Server: Send + Sync {
    /// A part of the list: the first, or what comes `after` an earlier part.
    fn list(&self, after: Option<String>) -> BoxFuture<'_, Result<Page, Trouble>>;

    /// What happens from `start` on; it ends when the server ends it.
    fn watch(&self, start: Start) -> BoxFuture<'_, Result<Events, Trouble>>;
}

/// What a watch tells, one after the other.
pub(super) type Events = BoxStream<'static, Result<Event, Trouble>>;

/// Where a watch begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// With all that there is, and [`Event::Mark`] with `complete` when that is told.
    Everything,
    /// With what has happened since this version.
    After(String),
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Event {
    /// It is like this now.
    Is(Value),
    /// It was like this, and is gone.
    Was(Value),
    /// Nothing has happened up to this version; `complete` says that all that there was is told.
    Mark { version: String, complete: bool },
}

/// A part of a list.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) objects: Vec<Value>,
    /// To watch from, once the last part is read.
    pub(super) version: String,
    /// What to ask the next part by.
    pub(super) after: Option<String>,
}

/// A kind at a real API server.
pub(super) struct Remote {
    client: Client,
    resource: Resource,
    request: Request,
}

impl Remote {
    pub(super) fn new(client: Client, resource: Resource) -> Self {
        let request = Request::new(resource.path());
        Self { client, resource, request }
    }

    /// The object of this name, if it is there.
    pub(super) async fn get(&self, name: &str) -> Result<Option<Value>, Trouble> {
        let request = self.request.get(name, &GetParams::default());
        let request = request.map_err(|error| Trouble::Refused(error.to_string()))?;
        match in_time(self.client.request(request)).await? {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(Trouble::of(&error)),
            Ok(object) => Ok(Some(object)),
        }
    }
}

impl Server for Remote {
    fn list(&self, after: Option<String>) -> BoxFuture<'_, Result<Page, Trouble>> {
        Box::pin(async move {
            let mut params = ListParams::default().limit(PAGE);
            params.label_selector = self.resource.labels.map(ToOwned::to_owned);
            params.field_selector = self.resource.fields();
            params.continue_token = after;
            let request = if self.resource.metadata_only {
                self.request.list_metadata(&params)
            } else {
                self.request.list(&params)
            };
            let request = request.map_err(|error| Trouble::Refused(error.to_string()))?;
            let list: List =
                in_time(self.client.request(request)).await?.map_err(|error| Trouble::of(&error))?;
            let after = Some(list.metadata.after).filter(|token| !token.is_empty());
            Ok(Page {
                objects: list.items.unwrap_or_default(),
                version: list.metadata.resource_version,
                after,
            })
        })
    }

    fn watch(&self, start: Start) -> BoxFuture<'_, Result<Events, Trouble>> {
        Box::pin(async move {
            let mut params = WatchParams::default().timeout(WATCH);
            params.label_selector = self.resource.labels.map(ToOwned::to_owned);
            params.field_selector = self.resource.fields();
            let version = match start {
                // Any version that the server has will do: what is newer follows.
                Start::Everything => {
                    params.send_initial_events = true;
                    "0".to_owned()
                }
                Start::After(version) => version,
            };
            let request = if self.resource.metadata_only {
                self.request.watch_metadata(&params, &version)
            } else {
                self.request.watch(&params, &version)
            };
            let request = request.map_err(|error| Trouble::Refused(error.to_string()))?;
            let lines = in_time(self.client.request_stream(request)).await?;
            let lines = lines.map_err(|error| Trouble::of(&error))?.lines();
            Ok(lines.map(|line| event(&line.map_err(|error| Trouble::broken(&error))?)).boxed())
        })
    }
}

async fn in_time<T>(answer: impl Future<Output = T>) -> Result<T, Trouble> {
    let late = |_| Trouble::Away(format!("the API server has not answered for {} s", ANSWER.as_secs()));
    timeout(ANSWER, answer).await.map_err(late)
}

fn event(line: &str) -> Result<Event, Trouble> {
    match serde_json::from_str(line) {
        Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => Ok(Event::Is(object)),
        Ok(WatchEvent::Deleted(object)) => Ok(Event::Was(object)),
        Ok(WatchEvent::Bookmark(mark)) => Ok(Event::Mark {
            complete: mark.metadata.annotations.get(INITIAL_EVENTS_END).is_some_and(|word| word == "true"),
            version: mark.metadata.resource_version,
        }),
        Ok(WatchEvent::Error(status)) => Err(Trouble::said(status.code, &status.message)),
        // A connection that breaks ends within a line; a failure may come as it is.
        Err(error) => match serde_json::from_str::<Status>(line) {
            Ok(status) if status.code != 0 => Err(Trouble::said(status.code, &status.message)),
            _ => Err(Trouble::Away(format!("the API server's words cannot be read: {error}"))),
        },
    }
}

#[derive(Deserialize)]
struct List {
    metadata: ListMeta,
    /// `null` where there are none.
    items: Option<Vec<Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMeta {
    #[serde(default)]
    resource_version: String,
    #[serde(default, rename = "continue")]
    after: String,
}

/// The annotation of the mark that ends a list by watch (KEP-3157).
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";
/// How long an answer may take to begin.
const ANSWER: Duration = Duration::from_secs(30);
/// How long a watch lasts, in seconds: kube-rs' and client-go's choice is about the same.
const WATCH: u32 = 290;
/// How many objects one part of a list has: client-go's choice.
const PAGE: u32 = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_an_object_a_mark_or_trouble() {
        let object = serde_json::json!({"kind": "Pod", "spec": {"restartPolicy": "Sometimes"}});
        let line = |word: &str| format!(r#"{{"type":"{word}","object":{object}}}"#);
        assert_eq!(event(&line("ADDED")), Ok(Event::Is(object.clone())), "also one that no type could hold");
        assert_eq!(event(&line("MODIFIED")), Ok(Event::Is(object.clone())));
        assert_eq!(event(&line("DELETED")), Ok(Event::Was(object.clone())));
        let mark = |annotations: &str| {
            let metadata = format!(r#"{{"resourceVersion":"7"{annotations}}}"#);
            let object = format!(r#"{{"kind":"Pod","apiVersion":"v1","metadata":{metadata}}}"#);
            event(&format!(r#"{{"type":"BOOKMARK","object":{object}}}"#))
        };
        let version = || "7".to_owned();
        assert_eq!(mark(""), Ok(Event::Mark { version: version(), complete: false }));
        let ends = mark(r#","annotations":{"k8s.io/initial-events-end":"true"}"#);
        assert_eq!(ends, Ok(Event::Mark { version: version(), complete: true }));
        let gone =
            r#"{"type":"ERROR","object":{"kind":"Status","status":"Failure","message":"old","code":410}}"#;
        assert_eq!(event(gone), Err(Trouble::Expired));
        let bare = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"no","code":403}"#;
        assert_eq!(event(bare), Err(Trouble::Forbidden("no".into())));
        assert!(matches!(event(r#"{"type":"ADDED","obj"#), Err(Trouble::Away(_))));
    }
}
