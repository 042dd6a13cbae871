//! What is asked of the API server: to store a status, to show one, to keep an Event.

use std::time::Duration;

use kube::{
    Client,
    api::{GetParams, PostParams},
    core::Request,
};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::desk::Stored;
use crate::{
    cluster::{Trouble, path_of},
    object::Key,
    status::{Judged, event::Event},
};

/// The API server.
pub(super) struct Remote {
    client: Client,
}

/// What it says.
pub(super) enum Answer {
    /// This is stored.
    Stored(Stored),
    /// Another version of the object is stored.
    Conflict,
    /// There is no such object.
    Gone,
    /// It will not.
    Refused(String),
    /// It does not answer.
    Away(String),
}

impl Remote {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Replaces the status of an object by `status`, if the object is still as `stored` says.
    pub(super) async fn replace(
        &self,
        key: &Key,
        judged: &Judged,
        stored: &Stored,
        status: &Value,
    ) -> Answer {
        let revision = &judged.revision;
        let mut metadata = json!({
            "name": &*key.name.name, "uid": revision.uid, "resourceVersion": stored.resource_version,
        });
        if !key.name.namespace.is_empty() {
            metadata["namespace"] = (*key.name.namespace).into();
        }
        let object = json!({
            "apiVersion": revision.api_version, "kind": key.kind.name(), "metadata": metadata, "status": status,
        });
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let request =
            request(key, judged).replace_subresource("status", &key.name.name, &params, bytes(&object));
        self.ask(request).await
    }

    /// The object as it is stored; [`Answer::Conflict`] where it is another one than was judged.
    pub(super) async fn fetch(&self, key: &Key, judged: &Judged) -> Answer {
        let request = request(key, judged).get(&key.name.name, &GetParams::default());
        let (answer, object) = self.ask_whole(request).await;
        let generation = object.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or_default();
        let same = object.pointer("/metadata/uid").and_then(Value::as_str) == Some(&judged.revision.uid)
            && generation == judged.revision.generation;
        if matches!(answer, Answer::Stored(_)) && !same { Answer::Conflict } else { answer }
    }

    /// Keeps an Event.
    pub(super) async fn tell(&self, event: &Event) -> Result<(), String> {
        let path = format!("/apis/events.k8s.io/v1/namespaces/{}/events", event.namespace);
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        match self.ask(Request::new(path).create(&params, bytes(&event.object))).await {
            // A conflict: it is there already.
            Answer::Stored(_) | Answer::Conflict => Ok(()),
            Answer::Gone => Err("its namespace is gone".to_owned()),
            Answer::Refused(error) | Answer::Away(error) => Err(error),
        }
    }

    async fn ask(&self, request: Result<http::Request<Vec<u8>>, kube::core::request::Error>) -> Answer {
        self.ask_whole(request).await.0
    }

    async fn ask_whole(
        &self,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> (Answer, Value) {
        let request = match request {
            Ok(request) => request,
            Err(error) => return (Answer::Refused(error.to_string()), Value::Null),
        };
        let answer = match timeout(ANSWER, self.client.request::<Value>(request)).await {
            Err(_) => Answer::Away(format!("no answer for {} s", ANSWER.as_secs())),
            Ok(Err(kube::Error::Api(status))) => match status.code {
                409 => Answer::Conflict,
                // Of a kind without a status, this path is not there either.
                404 if status.reason == "NotFound" && status.details.is_some() => Answer::Gone,
                404 => Answer::Refused("the kind has no status here".to_owned()),
                code => answer_of(&Trouble::said(code, &status.message)),
            },
            Ok(Err(error)) => answer_of(&Trouble::of(&error)),
            Ok(Ok(object)) => {
                let version = object.pointer("/metadata/resourceVersion").and_then(Value::as_str);
                let stored = Stored {
                    status: object.get("status").cloned().unwrap_or_default(),
                    resource_version: version.unwrap_or_default().to_owned(),
                };
                return (Answer::Stored(stored), object);
            }
        };
        (answer, Value::Null)
    }
}

fn answer_of(trouble: &Trouble) -> Answer {
    match trouble {
        Trouble::Away(_) => Answer::Away(trouble.to_string()),
        _ => Answer::Refused(trouble.to_string()),
    }
}

fn request(key: &Key, judged: &Judged) -> Request {
    Request::new(path_of(key.kind, &judged.revision.api_version, &key.name.namespace))
}

fn bytes(object: &Value) -> Vec<u8> {
    object.to_string().into_bytes()
}

/// How this is called in objects' `managedFields`.
const MANAGER: &str = "weft-controller";
/// How long an answer may take. Together with the time for which a lease is sure it is less than a lease lasts: a write
/// that began under a lease has ended when another may begin.
const ANSWER: Duration = Duration::from_secs(4);
